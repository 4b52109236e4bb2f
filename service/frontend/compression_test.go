package frontend

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
)

// counting is a compressor that does nothing but count the messages that it was used for.
type counting struct{ messages atomic.Int32 }

func (c *counting) Name() string { return "counting" }

func (c *counting) Compress(w io.Writer) (io.WriteCloser, error) {
	c.messages.Add(1)
	return nopCloser{w}, nil
}

func (c *counting) Decompress(r io.Reader) (io.Reader, error) { return r, nil }

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func TestOnlyLargeRepliesAreCompressed(t *testing.T) {
	c := &counting{}
	encoding.RegisterCompressor(c)
	e := newEnv(t)
	for size, compressed := range map[int]int32{10: 1, compressFrom: 2} { // the request always is
		e.history.answers(func(_ context.Context, _ string, _, reply proto.Message) error {
			reply.(*workflowservice.StartWorkflowExecutionResponse).RunId = strings.Repeat("r", size)
			return nil
		})
		c.messages.Store(0)
		reply, err := e.client.StartWorkflowExecution(t.Context(), startRequestWith(func(*startReq) {}), grpc.UseCompressor("counting"))
		require.NoError(t, err)
		require.Len(t, reply.RunId, size)
		require.Equal(t, compressed, c.messages.Load(), "%d bytes", size)
	}
}
