package postgres

import (
	"time"

	"go.uber.org/zap"

	"github.com/perdure/perdure/persistence/sql/group"
)

// Options say how to use a database. Zero values mean the defaults; only URL is needed.
type Options struct {
	// URL is a connection string as of libpq: "postgres://user:password@host/database?sslmode=…". The database may be behind a pool in
	// transaction mode, such as PgBouncer. That is noticed, and then statements are sent unnamed, which costs the server some time for
	// each; a pool that supports prepared statements of the protocol gets them with default_query_exec_mode=cache_statement.
	URL string
	// PoolSize is the number of connections for reads and for taking shards (default 8).
	PoolSize int
	// ListPoolSize is the number of connections for list and count (default 2): a slow filter must not stand in the way of a load.
	ListPoolSize int
	// Committers is the number of connections that commit groups (default 1). Each keeps the order of its shards. More of them make
	// more and smaller transactions, which cost the database several times as much: one commits some 10,000 transitions per second.
	Committers int
	// Group bounds the groups and sets their pace (default 5 ms). Its Observe hook sees every commit.
	Group group.Options
	// Migrate brings the schema up to date at open. Without it, a database that is not up to date is an error.
	Migrate bool
	// CommitTimeout is how long a commit may take until its outcome counts as unknown (default 10 s).
	CommitTimeout time.Duration
	// LockTimeout is how long taking a shard waits for the commits of its previous owner (default 2 s). Commits wait for their own key
	// half of CommitTimeout.
	LockTimeout time.Duration
	// ListTimeout bounds the statements of list and count in the server (default 10 s).
	ListTimeout time.Duration
	// OnServerChange is called when the database has become another server (failover) or has gone back in time (restore). By then the
	// store has a new key: all that it owned is fenced, and its caches are of no worth. It must return soon and not call the store.
	OnServerChange func(reason string)
	// Logger (default: none).
	Logger *zap.Logger
}

// closeTimeout bounds the polite end of one connection.
const closeTimeout = time.Second

// connectTimeout bounds one attempt to connect, if the URL has no connect_timeout of its own.
const connectTimeout = 5 * time.Second

func (o *Options) setDefaults() {
	setDefault(&o.PoolSize, 8)
	setDefault(&o.ListPoolSize, 2)
	setDefault(&o.Committers, 1)
	setDefault(&o.Group.Pace, 5*time.Millisecond)
	setDefault(&o.CommitTimeout, 10*time.Second)
	setDefault(&o.LockTimeout, 2*time.Second)
	setDefault(&o.ListTimeout, 10*time.Second)
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}
