package sqlite

import (
	"context"
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/group"
)

// mutationBytesMax is the largest single write. The limits of payloads and histories are far below it; it keeps one caller from
// holding up all the others for long.
const mutationBytesMax = 16 << 20

// write is a member of a group commit.
type write struct {
	size  int
	apply func(context.Context, *txn) error
}

// Size implements group.Member.
func (w *write) Size() int { return w.size }

// txn is the transaction of a group.
type txn struct {
	conn *conn
	// shards holds the stored owners of the shards that this transaction has looked at.
	shards map[persistence.ShardID]owner
}

// owner is who may write to a shard or queue.
type owner struct {
	key   int64
	epoch persistence.Epoch
}

// exec runs a statement.
func (tx *txn) exec(ctx context.Context, text string, args ...any) error {
	_, err := tx.conn.exec(ctx, text, args...)
	return err
}

// execOne runs a statement that must change a row, else the write conflicts with the stored state.
func (tx *txn) execOne(ctx context.Context, text string, args ...any) error {
	n, err := tx.conn.exec(ctx, text, args...)
	if err == nil && n == 0 {
		return persistence.ErrConflict
	}
	return err
}

// commit writes a group in one transaction. If a member fails, all is rolled back and the committer tries again without it.
func (db *database) commit(ctx context.Context, members []*write) error {
	return db.writer.use(ctx, func(ctx context.Context, c *conn) error {
		if _, err := c.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
			return unavailable(err)
		}
		tx := &txn{conn: c, shards: map[persistence.ShardID]owner{}}
		for i, m := range members {
			if err := m.apply(ctx, tx); err != nil {
				return errors.Join(blame(ctx, i, err), rollback(ctx, c))
			}
		}
		if _, err := c.exec(ctx, "COMMIT"); err != nil {
			// The WAL may hold the commit although its sync failed, and a crash would bring it back.
			return errors.Join(fmt.Errorf("%w: %w", persistence.ErrOutcomeUnknown, err), rollback(ctx, c))
		}
		return nil
	})
}

// unavailable is for faults that are nobody's: no member is tried again because of them.
func unavailable(err error) error {
	return fmt.Errorf("%w: %w", persistence.ErrUnavailable, err)
}

// blame tells the committer whether a member is at fault or the database.
func blame(ctx context.Context, member int, err error) error {
	err = classify(ctx, err)
	if errors.Is(err, persistence.ErrUnavailable) {
		return err
	}
	return &group.BlameError{Members: map[int]error{member: err}}
}

// rollback ends a transaction, unless SQLite has already done so because of the error.
func rollback(ctx context.Context, c *conn) error {
	if _, err := c.exec(ctx, "ROLLBACK"); err != nil && primaryCode(err) != sqlite3.SQLITE_ERROR { // "no transaction is active"
		c.broken = true
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}
