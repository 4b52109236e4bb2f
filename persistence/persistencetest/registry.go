package persistencetest

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/perdure/perdure/persistence"
)

var namespaceTests = []namedTest{
	{"create and get", testCreateNamespace},
	{"names and ids are unique", testNamespaceConflicts},
	{"update compares versions", testUpdateNamespace},
	{"list in pages", testListNamespaces},
	{"delete", testDeleteNamespace},
	{"another incarnation sees it at once", testNamespaceReadThrough},
}

func (e *env) newNamespace(name string) *persistence.NamespaceRecord {
	e.Helper()
	r := &persistence.NamespaceRecord{ID: uuid.NewString(), Name: name, Data: []byte("data of " + name), Version: 1}
	require.NoError(e, e.store.CreateNamespace(e.ctx, r))
	return r
}

func testCreateNamespace(e *env) {
	want := e.newNamespace("näme")
	byID, err := e.store.GetNamespace(e.ctx, want.ID, "")
	require.NoError(e, err)
	require.Equal(e, want, byID)
	byName, err := e.store.GetNamespace(e.ctx, "", "näme")
	require.NoError(e, err)
	require.Equal(e, want, byName)
	for _, wrong := range [][2]string{{uuid.NewString(), ""}, {"", "NÄME"}, {"not an id", ""}, {"", "no"}} {
		_, err := e.store.GetNamespace(e.ctx, wrong[0], wrong[1])
		require.ErrorIs(e, err, persistence.ErrNotFound, "%q", wrong)
	}
}

func testNamespaceConflicts(e *env) {
	first := e.newNamespace("a")
	second := e.newNamespace("b")
	require.ErrorIs(e, e.store.CreateNamespace(e.ctx, &persistence.NamespaceRecord{ID: uuid.NewString(), Name: "a"}), persistence.ErrConflict)
	require.ErrorIs(e, e.store.CreateNamespace(e.ctx, &persistence.NamespaceRecord{ID: first.ID, Name: "c"}), persistence.ErrConflict)
	require.ErrorIs(e, e.store.UpdateNamespace(e.ctx, &persistence.NamespaceRecord{ID: second.ID, Name: "a", Version: 1}), persistence.ErrConflict)
	got, err := e.store.GetNamespace(e.ctx, second.ID, "")
	require.NoError(e, err)
	require.Equal(e, second, got)
}

func testUpdateNamespace(e *env) {
	r := e.newNamespace("a")
	require.NoError(e, e.store.UpdateNamespace(e.ctx, &persistence.NamespaceRecord{ID: r.ID, Name: "renamed", Data: []byte("two"), Version: 1}))
	for _, version := range []int64{0, 1, 3} {
		err := e.store.UpdateNamespace(e.ctx, &persistence.NamespaceRecord{ID: r.ID, Name: "renamed", Data: []byte("x"), Version: version})
		require.ErrorIs(e, err, persistence.ErrConflict)
	}
	got, err := e.store.GetNamespace(e.ctx, "", "renamed")
	require.NoError(e, err)
	require.Equal(e, &persistence.NamespaceRecord{ID: r.ID, Name: "renamed", Data: []byte("two"), Version: 2}, got)
	_, err = e.store.GetNamespace(e.ctx, "", "a")
	require.ErrorIs(e, err, persistence.ErrNotFound)
	err = e.store.UpdateNamespace(e.ctx, &persistence.NamespaceRecord{ID: uuid.NewString(), Name: "new", Version: 1})
	require.ErrorIs(e, err, persistence.ErrConflict, "one that does not exist")
}

func testListNamespaces(e *env) {
	ids := map[string]bool{}
	for i := range 7 {
		ids[e.newNamespace(fmt.Sprint(i)).ID] = true
	}
	after, seen := "", 0
	for {
		page, err := e.store.ListNamespaces(e.ctx, after, 3)
		require.NoError(e, err)
		require.LessOrEqual(e, len(page), 3)
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			require.Greater(e, r.ID, after)
			require.True(e, ids[r.ID])
			require.Equal(e, "data of "+r.Name, string(r.Data))
			after, seen = r.ID, seen+1
		}
	}
	require.Equal(e, 7, seen)
}

func testDeleteNamespace(e *env) {
	r := e.newNamespace("a")
	require.NoError(e, e.store.DeleteNamespace(e.ctx, r.ID))
	_, err := e.store.GetNamespace(e.ctx, r.ID, "")
	require.ErrorIs(e, err, persistence.ErrNotFound)
	e.newNamespace("a")
}

func testNamespaceReadThrough(e *env) {
	other := e.open()
	r := e.newNamespace("a")
	_, err := other.GetNamespace(e.ctx, "", r.Name)
	require.NoError(e, err)
}

var memberTests = []namedTest{
	{"register, renew and remove", testMembers},
	{"a lease ends", testLeaseEnds},
}

func testMembers(e *env) {
	m := persistence.Member{ID: "one", Service: "history", Address: "host:1"}
	members, now, err := e.store.RenewMember(e.ctx, m, time.Minute)
	require.NoError(e, err)
	require.Len(e, members, 1)
	first := members[0]
	require.WithinDuration(e, now, first.Started, 0)
	require.WithinDuration(e, now, first.Renewed, 0)
	require.WithinDuration(e, now.Add(time.Minute), first.Expires, 0)
	require.Equal(e, []string{"one", "history", "host:1"}, []string{first.ID, first.Service, first.Address})

	other := e.open()
	members, _, err = other.RenewMember(e.ctx, persistence.Member{ID: "two", Service: "matching", Address: "host:2"}, time.Minute)
	require.NoError(e, err)
	require.Len(e, members, 2)
	keys := map[string]int64{members[0].ID: members[0].Key, members[1].ID: members[1].Key}
	require.NotEqual(e, keys["one"], keys["two"], "every incarnation has its own key")

	m.Draining, m.Address = true, "host:3"
	members, now, err = e.store.RenewMember(e.ctx, m, time.Hour)
	require.NoError(e, err)
	renewed := find(e, members, "one")
	require.True(e, renewed.Draining)
	require.Equal(e, "host:3", renewed.Address)
	require.Equal(e, keys["one"], renewed.Key)
	require.WithinDuration(e, first.Started, renewed.Started, 0, "registered once")
	require.WithinDuration(e, now.Add(time.Hour), renewed.Expires, 0)

	require.NoError(e, other.RemoveMember(e.ctx, "one"))
	members, _, err = other.RenewMember(e.ctx, persistence.Member{ID: "two"}, time.Minute)
	require.NoError(e, err)
	require.Len(e, members, 1)
	require.NoError(e, other.RemoveMember(e.ctx, "nobody"))
}

func find(e *env, members []persistence.Member, id string) persistence.Member {
	for _, m := range members {
		if m.ID == id {
			return m
		}
	}
	require.FailNow(e, "no such member", id)
	return persistence.Member{}
}

func testLeaseEnds(e *env) {
	_, _, err := e.store.RenewMember(e.ctx, persistence.Member{ID: "dead"}, -time.Second)
	require.NoError(e, err)
	members, now, err := e.store.RenewMember(e.ctx, persistence.Member{ID: "alive"}, time.Minute)
	require.NoError(e, err)
	require.True(e, find(e, members, "alive").Expires.After(now))
	require.True(e, find(e, members, "dead").Expires.Before(now), "an ended lease is listed for a while")
}
