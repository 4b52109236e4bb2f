package frontend

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

const (
	// httpBodyMax bounds a request, in bytes, as gRPC does.
	httpBodyMax = ReceiveBytesMaxDefault
	// httpTimeout bounds a call of a client that cannot state a deadline; no long poll is longer.
	httpTimeout = 70 * time.Second
)

// The media types that select a form of JSON.
const (
	mimeJSON              = "application/json"
	mimePretty            = mimeJSON + "+pretty"
	mimeNoShorthand       = mimeJSON + "+no-payload-shorthand"
	mimePrettyNoShorthand = mimeJSON + "+pretty+no-payload-shorthand"
)

// forwardedHeaders reach the service under their own names.
var forwardedHeaders = map[string]bool{
	"Authorization-Extras": true,
	"Client-Name":          true,
	"Client-Version":       true,
	"Caller-Type":          true,
	"X-Request-Id":         true,
	"Traceparent":          true,
	"Tracestate":           true,
}

// NewHTTPGateway makes the HTTP/JSON API: each request becomes a call on conn.
func NewHTTPGateway(conn grpc.ClientConnInterface) (http.Handler, error) {
	mux := runtime.NewServeMux(
		// Within a segment everything is unescaped: %2F is part of an id, not a separator.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptReserved),
		runtime.WithIncomingHeaderMatcher(matchHeader),
		runtime.WithMetadata(clientMetadata),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newJSON("", true)),
		runtime.WithMarshalerOption(mimeJSON, newJSON("", true)),
		runtime.WithMarshalerOption(mimePretty, newJSON("  ", true)),
		runtime.WithMarshalerOption(mimeNoShorthand, newJSON("", false)),
		runtime.WithMarshalerOption(mimePrettyNoShorthand, newJSON("  ", false)),
	)
	// The registrations only fill the mux; the context ends nothing.
	ctx := context.Background()
	err := errors.Join(
		workflowservice.RegisterWorkflowServiceHandlerClient(ctx, mux, workflowservice.NewWorkflowServiceClient(conn)),
		operatorservice.RegisterOperatorServiceHandlerClient(ctx, mux, operatorservice.NewOperatorServiceClient(conn)),
	)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), httpTimeout)
		defer cancel()
		// A body that comes too slowly would stay in memory. Where there is no connection, nothing comes slowly.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(httpTimeout))
		// Without it the mux logs an error for each request that has no route.
		ctx = runtime.NewServerMetadataContext(ctx, runtime.ServerMetadata{})
		r = r.Clone(ctx)
		// Otherwise the mux would unescape a path twice unless it holds unusual escapes.
		r.URL.RawPath = r.URL.EscapedPath()
		r.Body = http.MaxBytesReader(w, r.Body, httpBodyMax)
		selectJSON(r)
		mux.ServeHTTP(w, r)
	}), nil
}

func matchHeader(name string) (string, bool) {
	if forwardedHeaders[name] {
		return strings.ToLower(name), true
	}
	return runtime.DefaultHeaderMatcher(name)
}

// clientMetadata names the gateway as the client if the request names none.
func clientMetadata(_ context.Context, r *http.Request) metadata.MD {
	if r.Header.Get(headerClientName) != "" || r.Header.Get(headerClientVersion) != "" {
		return nil
	}
	return metadata.Pairs(headerClientName, clientHTTP, headerClientVersion, ServerVersion)
}

// selectJSON sets the media types of a request to the form of JSON that its query or Accept header asks for. The form is
// the same both ways.
func selectJSON(r *http.Request) {
	query, accept := r.URL.Query(), r.Header.Get("Accept")
	mime := mimeJSON
	if query.Has("pretty") || accept == mimePretty || accept == mimePrettyNoShorthand {
		mime += "+pretty"
	}
	if query.Has("noPayloadShorthand") || accept == mimeNoShorthand || accept == mimePrettyNoShorthand {
		mime += "+no-payload-shorthand"
	}
	r.Header.Set("Accept", mime)
	r.Header.Set("Content-Type", mime)
}

// jsonForm is one form of JSON: the API's own, with or without its shorthand for payloads.
type jsonForm struct {
	marshal   temporalproto.CustomJSONMarshalOptions
	unmarshal temporalproto.CustomJSONUnmarshalOptions
	// builtin takes what is not a message.
	builtin runtime.JSONBuiltin
}

var _ runtime.Marshaler = (*jsonForm)(nil)

func newJSON(indent string, shorthand bool) *jsonForm {
	var meta map[string]any
	if shorthand {
		meta = map[string]any{commonpb.EnablePayloadShorthandMetadataKey: true}
	}
	return &jsonForm{
		marshal:   temporalproto.CustomJSONMarshalOptions{Indent: indent, Metadata: meta},
		unmarshal: temporalproto.CustomJSONUnmarshalOptions{Metadata: meta},
	}
}

// ContentType implements runtime.Marshaler.
func (*jsonForm) ContentType(any) string { return mimeJSON }

// Marshal implements runtime.Marshaler.
func (f *jsonForm) Marshal(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		return f.marshal.Marshal(m)
	}
	return f.builtin.Marshal(v)
}

// Unmarshal implements runtime.Marshaler.
func (f *jsonForm) Unmarshal(data []byte, v any) error {
	if m, ok := v.(proto.Message); ok {
		return f.unmarshal.Unmarshal(data, m)
	}
	return f.builtin.Unmarshal(data, v)
}

// NewDecoder implements runtime.Marshaler.
func (f *jsonForm) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			return io.EOF // what the gateway takes for "no body"
		}
		return f.Unmarshal(data, v)
	})
}

// NewEncoder implements runtime.Marshaler.
func (f *jsonForm) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := f.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
}
