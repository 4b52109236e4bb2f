package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	// healthcheckTimeout is longer than the server takes to find out that its database does not answer, so that the reason is told.
	healthcheckTimeout = 2 * readyTimeout
	// reasonBytesMax bounds what is read of an answer.
	reasonBytesMax = 4 << 10
)

// HealthcheckCommand makes the command that asks a running process whether it is ready, for containers whose image has no other
// program. It prints one line and fails unless the process is ready.
func HealthcheckCommand(httpAddress string) *cobra.Command {
	var address, grpcAddress string
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running server whether it is ready",
		Long: `Asks a running server whether it is ready, prints one line and exits with 0 if it is and
with 1 if it is not: the health check of a container. An address without a host, or with
0.0.0.0, means this machine.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			// The server's own setting says where to ask, unless the command line does.
			if value, ok := os.LookupEnv(envPrefix + "HTTP_ADDRESS"); ok && !cmd.Flags().Changed("address") {
				address = value
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), healthcheckTimeout)
			defer cancel()
			if grpcAddress != "" {
				return checkGRPC(ctx, cmd.OutOrStdout(), localHost(grpcAddress))
			}
			return checkHTTP(ctx, cmd.OutOrStdout(), localHost(address))
		},
	}
	cmd.Flags().StringVar(&address, "address", httpAddress, "`host:port` of the server's health and metrics (its --http-address)")
	cmd.Flags().StringVar(&grpcAddress, "grpc", "", "ask the gRPC health service at this `host:port` instead; it speaks plain text only")
	return cmd
}

// localHost is an address under which this machine reaches a listener.
func localHost(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(loopbackFor(host), port)
}

func checkHTTP(ctx context.Context, out io.Writer, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz/ready", nil)
	if err != nil {
		return fmt.Errorf("--address: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("not ready: %s does not answer: %w", address, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		_, err := fmt.Fprintf(out, "ready: %s\n", address)
		return err
	}
	var body struct{ Reason string }
	if err := json.NewDecoder(io.LimitReader(response.Body, reasonBytesMax)).Decode(&body); err != nil || body.Reason == "" {
		return fmt.Errorf("not ready: %s answers %s", address, response.Status)
	}
	return errors.New("not ready: " + body.Reason)
}

func checkGRPC(ctx context.Context, out io.Writer, address string) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("--grpc: %w", err)
	}
	defer conn.Close()
	response, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("not ready: %s does not answer: %w", address, err)
	}
	if response.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("not ready: %s answers %s", address, response.GetStatus())
	}
	_, err = fmt.Fprintf(out, "ready: %s\n", address)
	return err
}
