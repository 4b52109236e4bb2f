package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/perdure/perdure/admin"
	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/sql/postgres"
	"github.com/perdure/perdure/persistence/sql/sqlite"
	"github.com/perdure/perdure/server"
)

func adminCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "admin",
		Short: "Look into the database of a server",
		Long: `Looks into the database of a server, without a server: a PostgreSQL database (--postgres),
beside servers that work on it, or the file of a development server that has been stopped
(--db-filename). None of these commands changes anything.`,
	}
	workflow := &cobra.Command{Use: "workflow", Short: "Look at the stored state of workflows"}
	workflow.AddCommand(adminShowCommand())
	cmd.AddCommand(adminMembersCommand(), adminShardsCommand(), adminPartitionsCommand(), workflow, adminFsckCommand())
	return cmd
}

// database is where an admin command looks.
type database struct {
	config   string
	postgres string
	file     string
}

func (d *database) addFlags(f *pflag.FlagSet) {
	f.StringVar(&d.config, "config", "", "YAML `file` with defaults for these flags (a map of flag names to values)")
	f.StringVar(&d.postgres, "postgres", "", "PostgreSQL `URL`: postgres://user:password@host:5432/database")
	f.StringVar(&d.file, "db-filename", "", "SQLite `file` of a development server, which must not be running")
}

func (d *database) complete(cmd *cobra.Command, _ []string) error {
	if err := server.Complete(cmd, &d.config); err != nil {
		return err
	}
	if (d.postgres == "") == (d.file == "") {
		return errors.New("say which database: either --postgres URL or --db-filename FILE")
	}
	return nil
}

// inspected is a store that can be looked into.
type inspected interface {
	persistence.Store
	persistence.Inspector
}

// use opens the database as it is and closes it after f.
func (d *database) use(ctx context.Context, f func(inspected) error) (err error) {
	var store inspected
	if d.postgres != "" {
		store, err = postgres.Open(ctx, postgres.Options{URL: d.postgres})
	} else {
		store, err = sqlite.Open(ctx, sqlite.Options{Path: d.file, Existing: true})
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return f(store)
}

// command makes a command on a database.
func (d *database) command(cmd *cobra.Command, run func(ctx context.Context, store inspected, out io.Writer) error) *cobra.Command {
	cmd.Args, cmd.PreRunE = cobra.NoArgs, d.complete
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return d.use(cmd.Context(), func(store inspected) error { return run(cmd.Context(), store, cmd.OutOrStdout()) })
	}
	d.addFlags(cmd.Flags())
	return cmd
}

func adminMembersCommand() *cobra.Command {
	return new(database).command(&cobra.Command{Use: "members", Short: "List the processes of the cluster and their leases"},
		func(ctx context.Context, store inspected, out io.Writer) error {
			members, now, err := store.ListMembers(ctx)
			if err != nil {
				return err
			}
			return printMembers(out, members, now)
		})
}

func printMembers(out io.Writer, members []persistence.Member, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tADDRESS\tSTATE\tSTARTED\tLEASE\tID")
	for _, m := range members {
		lease := fmt.Sprintf("for another %s", m.Expires.Sub(now).Round(time.Second))
		if !m.Expires.After(now) {
			lease = fmt.Sprintf("ended %s ago", now.Sub(m.Expires).Round(time.Second))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", m.Service, m.Address, memberState(&m, now), m.Started.UTC().Format(time.RFC3339), lease, m.ID)
	}
	return w.Flush()
}

func memberState(m *persistence.Member, now time.Time) string {
	switch {
	case m == nil:
		return "not registered"
	case !m.Expires.After(now):
		return "gone"
	case m.Draining:
		return "draining"
	}
	return "live"
}

func adminShardsCommand() *cobra.Command {
	return new(database).command(&cobra.Command{Use: "shards", Short: "Count the shards of each owner"},
		func(ctx context.Context, store inspected, out io.Writer) error {
			owners, err := admin.Owners(ctx, store)
			if err != nil {
				return err
			}
			now, err := store.Now(ctx)
			if err != nil {
				return err
			}
			return printOwners(out, owners, now)
		})
}

func adminPartitionsCommand() *cobra.Command {
	return new(database).command(&cobra.Command{
		Use:   "partitions",
		Short: "List the stored partitions of task queues, their owners and tasks",
		Long: `Lists the partitions of task queues that have ever had something to store, the process
that owns each, and how many tasks are stored. A partition whose tasks all met a worker at
once has no row: ask the server for it (temporal task-queue describe). An owner whose
process has gone is replaced when somebody next uses the partition.`,
	},
		func(ctx context.Context, store inspected, out io.Writer) error {
			now, err := store.Now(ctx)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAMESPACE\tTASK QUEUE\tTYPE\tPARTITION\tTASKS\tOWNER\tADDRESS\tSTATE")
			err = admin.Partitions(ctx, store, func(p *admin.Partition) error {
				address := "-"
				if p.Member != nil {
					address = p.Member.Address
				}
				_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", p.Namespace, p.Key.TaskQueue,
					strings.ToLower(enumspb.TaskQueueType(p.Key.Type).String()), p.Key.Partition, p.Tasks, p.Owner, address, memberState(p.Member, now))
				return err
			})
			return errors.Join(err, w.Flush())
		})
}

func printOwners(out io.Writer, owners []admin.OwnerCount, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SHARDS\tOWNER\tADDRESS\tSTATE")
	rest := persistence.ShardCount
	for _, o := range owners {
		address := "-"
		if o.Member != nil {
			address = o.Member.Address
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", o.Shards, o.Owner, address, memberState(o.Member, now))
		rest -= o.Shards
	}
	if rest > 0 {
		fmt.Fprintf(w, "%d\t-\t-\tnever owned\n", rest)
	}
	return w.Flush()
}
