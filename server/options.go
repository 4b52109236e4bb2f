// Package server composes the services into processes: the development server, all services in one process on PostgreSQL, and
// each service for itself. It owns configuration, listeners, TLS, health, metrics and the order of start and stop; it knows
// nothing of workflows.
package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/perdure/perdure/service/frontend"
)

// Options are what every server process takes. Each is a flag; an unset flag is looked up in the environment
// (PERDURE_POSTGRES for --postgres) and then in the config file (--config), a YAML map of flag names to values.
type Options struct {
	ConfigFile string

	Postgres string

	GRPCAddress string
	HTTPAddress string

	LogLevel  string
	LogFormat string

	TLS TLSFiles

	// InternalAddress is where a process that also serves the public API listens to the other members of the cluster.
	InternalAddress string
	// AdvertiseAddress is what the other members dial; empty: the address that this process listens at.
	AdvertiseAddress string
	InternalTLS      InternalTLSFiles

	// Load bounds what a process with the public API takes on.
	Load frontend.LoadLimits

	// OTLPEndpoint is where traces go; empty: nowhere, unless the standard environment variables name a place.
	OTLPEndpoint string

	// UIAddress is where the Web UI listens; empty: there is none. Namespaces are made at start if they do not exist.
	UIAddress  string
	Namespaces []string

	// TaskQueuePartitions is the number of partitions of every task queue; 0: each has as many as it needs.
	TaskQueuePartitions int32
}

// TLSFiles name the files of the public API's TLS. All empty: no TLS.
type TLSFiles struct {
	Cert     string
	Key      string
	ClientCA string
}

// Enabled tells whether the API is served over TLS.
func (f TLSFiles) Enabled() bool { return f.Cert != "" || f.Key != "" || f.ClientCA != "" }

const envPrefix = "PERDURE_"

// InternalTLSFiles name the files of TLS between the members of a cluster. All empty: no TLS.
type InternalTLSFiles struct {
	Cert       string
	Key        string
	CA         string
	ServerName string
}

// Enabled tells whether members speak TLS with each other.
func (f InternalTLSFiles) Enabled() bool { return f.Cert != "" || f.Key != "" || f.CA != "" }

// AddFlags registers the options that every process has.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.ConfigFile, "config", "", "YAML `file` with defaults for these flags (a map of flag names to values)")
	f.StringVar(&o.LogLevel, "log-level", "info", "what to log: debug, info, warn or error")
	f.StringVar(&o.LogFormat, "log-format", "json", "how to log: json or text")
	f.StringVar(&o.TLS.Cert, "tls-cert", "", "certificate `file` (PEM) of the API; turns TLS on, reloaded when it changes")
	f.StringVar(&o.TLS.Key, "tls-key", "", "private key `file` (PEM) of the certificate")
	f.StringVar(&o.TLS.ClientCA, "tls-client-ca", "", "`file` (PEM) of the authorities whose clients are let in (mutual TLS)")
	f.StringVar(&o.OTLPEndpoint, "otlp-endpoint", "",
		"`URL` of an OpenTelemetry collector (OTLP over gRPC), like http://localhost:4317, to send traces to "+
			"(default: OTEL_EXPORTER_OTLP_ENDPOINT, else no traces)")
}

// AddStoreFlags registers what a process on PostgreSQL has.
func (o *Options) AddStoreFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Postgres, "postgres", "", "PostgreSQL `URL`: postgres://user:password@host:5432/database")
}

// AddMemberFlags registers what every member of a cluster has.
func (o *Options) AddMemberFlags(f *pflag.FlagSet) {
	f.StringVar(&o.InternalTLS.Cert, "internal-tls-cert", "",
		"certificate `file` (PEM) of this process towards the other services; turns mutual TLS between services on, reloaded when it changes")
	f.StringVar(&o.InternalTLS.Key, "internal-tls-key", "", "private key `file` (PEM) of that certificate")
	f.StringVar(&o.InternalTLS.CA, "internal-tls-ca", "", "`file` (PEM) of the authorities of the other services' certificates")
	f.StringVar(&o.InternalTLS.ServerName, "internal-tls-server-name", "",
		"`name` that is in the certificate of every service (default: the host of its address)")
}

// AddAdvertiseFlag registers what a member has that others call.
func (o *Options) AddAdvertiseFlag(f *pflag.FlagSet, listens string) {
	f.StringVar(&o.AdvertiseAddress, "advertise-address", "",
		"`host[:port]` at which the other services reach this one; without a port, the one that it listens at (default: "+listens+
			", or this machine's address if it listens on all)")
}

// AddInternalFlags registers what a process has that runs all services.
func (o *Options) AddInternalFlags(f *pflag.FlagSet) {
	f.StringVar(&o.InternalAddress, "internal-address", "127.0.0.1:0",
		"`host:port` at which to listen to other processes on the same database; port 0: any free one. On several machines it must be one that the others can dial")
	o.AddAdvertiseFlag(f, "--internal-address")
}

// AddAddressFlags registers the addresses to listen on.
func (o *Options) AddAddressFlags(f *pflag.FlagSet, grpcAddress, httpAddress string) {
	f.StringVar(&o.GRPCAddress, "grpc-address", grpcAddress, "`host:port` of the gRPC API")
	f.StringVar(&o.HTTPAddress, "http-address", httpAddress, "`host:port` of health, metrics and pprof; empty for none")
}

// AddFrontendFlags registers what a process with the public API has.
func (o *Options) AddFrontendFlags(f *pflag.FlagSet) {
	f.StringVar(&o.UIAddress, "ui-address", "", "`host:port` of the Web UI; whoever reaches it can do everything (default: none)")
	f.StringSliceVarP(&o.Namespaces, "namespace", "n", nil, "`name` of a namespace to make if it does not exist; may be repeated")
}

// AddLoadFlags registers what a process with the public API takes on. The limits are those of one process.
func (o *Options) AddLoadFlags(f *pflag.FlagSet, defaults frontend.LoadLimits) {
	l := &o.Load
	*l = defaults
	f.Float64Var(&l.RPS, "limit-rps", l.RPS,
		"`calls` of the API per second that this process takes; 0 is no limit, here and below. Beyond a limit, calls get RESOURCE_EXHAUSTED, "+
			"polls and reads first, starts and results of tasks last; clients try again")
	f.Float64Var(&l.NamespaceRPS, "limit-namespace-rps", l.NamespaceRPS, "`calls` per second of one namespace")
	f.Float64Var(&l.NamespaceVisibilityRPS, "limit-namespace-visibility-rps", l.NamespaceVisibilityRPS,
		"`calls` that list or count, per second of one namespace")
	f.Float64Var(&l.NamespaceDeploymentReadRPS, "limit-namespace-deployment-read-rps", l.NamespaceDeploymentReadRPS,
		"`calls` that read worker deployments, per second of one namespace")
	f.Float64Var(&l.NamespaceChangeRPS, "limit-namespace-change-rps", l.NamespaceChangeRPS,
		"`calls` per second that register, change or delete namespaces; one namespace may take a twentieth of them")
	f.Float64Var(&l.BurstRatio, "limit-burst-ratio", l.BurstRatio, "`seconds` worth of calls that may come at once after a quiet time")
	f.IntVar(&l.InFlight, "limit-in-flight", l.InFlight,
		"`calls` that this process works on at a time, without those that wait for others; one namespace may have half of them")
	f.Int64Var(&l.InFlightBytes, "limit-in-flight-bytes", l.InFlightBytes, "`bytes` of all requests in memory")
	f.IntVar(&l.Waiting, "limit-waiting", l.Waiting, "`calls` that wait for tasks, events or results at a time")
	f.IntVar(&l.NamespaceWaiting, "limit-namespace-waiting", l.NamespaceWaiting,
		"`calls` of one namespace that wait for tasks, events or results at a time")
}

// Complete fills flags that were not given from the environment and the config file. It belongs into PreRunE.
func Complete(cmd *cobra.Command, configFile *string) error {
	fromFile := map[string]string{}
	if f := cmd.Flags().Lookup("config"); f != nil {
		if err := fromEnvironment(cmd.Flags(), f); err != nil {
			return err
		}
		if *configFile != "" {
			var err error
			if fromFile, err = readConfig(*configFile, cmd.Flags()); err != nil {
				return err
			}
		}
	}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if failed != nil || f.Changed || f.Name == "help" {
			return
		}
		if failed = fromEnvironment(cmd.Flags(), f); failed != nil || f.Changed {
			return
		}
		if value, ok := fromFile[f.Name]; ok {
			if err := cmd.Flags().Set(f.Name, value); err != nil {
				failed = fmt.Errorf("config file: %s: %w", f.Name, err)
			}
		}
	})
	return failed
}

func fromEnvironment(flags *pflag.FlagSet, f *pflag.Flag) error {
	name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
	value, ok := os.LookupEnv(name)
	if !ok || f.Changed {
		return nil
	}
	if err := flags.Set(f.Name, value); err != nil {
		return fmt.Errorf("environment variable %s: %w", name, err)
	}
	return nil
}

func readConfig(path string, flags *pflag.FlagSet) (map[string]string, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("config file %s does not exist", path)
	}
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	var entries map[string]any
	if err := yaml.Unmarshal(raw, &entries); err != nil {
		return nil, fmt.Errorf("config file %s: %w", path, err)
	}
	values := map[string]string{}
	for name, v := range entries {
		if flags.Lookup(name) == nil {
			return nil, fmt.Errorf("config file %s: there is no setting %q; settings are named like the flags (%s)", path, name, strings.Join(flagNames(flags), ", "))
		}
		if list, ok := v.([]any); ok {
			var items []string
			for _, item := range list {
				items = append(items, fmt.Sprint(item))
			}
			v = strings.Join(items, ",")
		}
		values[name] = fmt.Sprint(v)
	}
	return values, nil
}

func flagNames(flags *pflag.FlagSet) (names []string) {
	flags.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	slices.Sort(names)
	return names
}

// Validate checks what flags alone cannot say.
func (o *Options) Validate() error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, o.LogLevel) {
		return fmt.Errorf("--log-level is %q; it must be debug, info, warn or error", o.LogLevel)
	}
	if o.LogFormat != "json" && o.LogFormat != "text" {
		return fmt.Errorf("--log-format is %q; it must be json or text", o.LogFormat)
	}
	if o.TLS.Enabled() && (o.TLS.Cert == "" || o.TLS.Key == "") {
		return errors.New("TLS needs both --tls-cert and --tls-key")
	}
	if f := o.InternalTLS; f.Enabled() && (f.Cert == "" || f.Key == "" || f.CA == "") {
		return errors.New("TLS between services is mutual: it needs --internal-tls-cert, --internal-tls-key and --internal-tls-ca")
	}
	return o.validateMatching()
}
