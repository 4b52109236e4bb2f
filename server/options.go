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

	// Addresses of the other services, for a process that runs only one.
	HistoryAddress  string
	MatchingAddress string
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

// AddFlags registers the options that every process has.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.ConfigFile, "config", "", "YAML `file` with defaults for these flags (a map of flag names to values)")
	f.StringVar(&o.LogLevel, "log-level", "info", "what to log: debug, info, warn or error")
	f.StringVar(&o.LogFormat, "log-format", "json", "how to log: json or text")
	f.StringVar(&o.TLS.Cert, "tls-cert", "", "certificate `file` (PEM) of the API; turns TLS on, reloaded when it changes")
	f.StringVar(&o.TLS.Key, "tls-key", "", "private key `file` (PEM) of the certificate")
	f.StringVar(&o.TLS.ClientCA, "tls-client-ca", "", "`file` (PEM) of the authorities whose clients are let in (mutual TLS)")
}

// AddStoreFlags registers what a process on PostgreSQL has.
func (o *Options) AddStoreFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Postgres, "postgres", "", "PostgreSQL `URL`: postgres://user:password@host:5432/database")
}

// AddAddressFlags registers the addresses to listen on.
func (o *Options) AddAddressFlags(f *pflag.FlagSet, grpcAddress, httpAddress string) {
	f.StringVar(&o.GRPCAddress, "grpc-address", grpcAddress, "`host:port` of the gRPC API")
	f.StringVar(&o.HTTPAddress, "http-address", httpAddress, "`host:port` of health, metrics and pprof; empty for none")
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
	return nil
}
