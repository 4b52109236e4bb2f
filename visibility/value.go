package visibility

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
)

const (
	metadataEncoding = "encoding"
	metadataType     = "type"
	encodingJSON     = "json/plain"
	encodingNull     = "binary/null"

	// datetimeLayout is of fixed width, so that the order of the text is the order of the times.
	datetimeLayout = "2006-01-02T15:04:05.000000000Z"
)

var (
	errWrongType = errors.New("value of another type")
	errNulByte   = errors.New("the character U+0000 cannot be stored")
)

// decodePayload returns the value of a payload as its attribute's type says: string, int64, float64, bool, time.Time (UTC) or
// []string; nil for a null payload or an empty list. A list of one element is taken as that element, for some SDKs send
// every value as a list.
func decodePayload(t enumspb.IndexedValueType, p *commonpb.Payload) (any, error) {
	switch encoding := string(p.GetMetadata()[metadataEncoding]); encoding {
	case encodingNull:
		return nil, nil
	case encodingJSON:
		return decodeJSON(t, p.GetData())
	default:
		return nil, fmt.Errorf("payload encoding %q is not %s", encoding, encodingJSON)
	}
}

func decodeJSON(t enumspb.IndexedValueType, data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var raw any
	if err := d.Decode(&raw); err != nil {
		return nil, fmt.Errorf("payload is not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("payload is more than one JSON value")
	}
	list, isList := raw.([]any)
	switch {
	case raw == nil, isList && len(list) == 0:
		return nil, nil
	case t == enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST:
		return decodeList(list)
	case isList && len(list) == 1:
		raw = list[0]
	}
	return decodeScalar(t, raw)
}

func decodeList(raw []any) (any, error) {
	if len(raw) == 0 {
		return nil, errWrongType
	}
	list := make([]string, len(raw))
	for i, element := range raw {
		s, ok := element.(string)
		if !ok {
			return nil, errWrongType
		}
		if strings.ContainsRune(s, 0) {
			return nil, errNulByte
		}
		list[i] = s
	}
	return list, nil
}

func decodeScalar(t enumspb.IndexedValueType, raw any) (any, error) {
	switch v := raw.(type) {
	case string:
		if t == enumspb.INDEXED_VALUE_TYPE_DATETIME {
			return parseDatetime(v)
		}
		if t != enumspb.INDEXED_VALUE_TYPE_KEYWORD && t != enumspb.INDEXED_VALUE_TYPE_TEXT {
			return nil, errWrongType
		}
		if strings.ContainsRune(v, 0) {
			return nil, errNulByte
		}
		return v, nil
	case json.Number:
		switch t {
		case enumspb.INDEXED_VALUE_TYPE_INT:
			return strconv.ParseInt(v.String(), 10, 64)
		case enumspb.INDEXED_VALUE_TYPE_DOUBLE:
			return strconv.ParseFloat(v.String(), 64)
		}
	case bool:
		if t == enumspb.INDEXED_VALUE_TYPE_BOOL {
			return v, nil
		}
	}
	return nil, errWrongType
}

// parseDatetime reads RFC 3339, with a fraction or without. Years beyond four digits (also after the conversion to UTC) would
// break the order of the stored text.
func parseDatetime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("not a time of RFC 3339: %q", s)
	}
	t = t.UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("time out of range: %q", s)
	}
	return t, nil
}

// encodePayload is the reverse of decodePayload.
func encodePayload(t enumspb.IndexedValueType, value any) (*commonpb.Payload, error) {
	if tm, ok := value.(time.Time); ok {
		value = tm.Format(time.RFC3339Nano)
	}
	data, err := marshalJSON(value)
	if err != nil {
		return nil, err
	}
	return &commonpb.Payload{
		Metadata: map[string][]byte{metadataEncoding: []byte(encodingJSON), metadataType: []byte(t.String())},
		Data:     data,
	}, nil
}

// marshalJSON leaves <, > and & alone, which json.Marshal escapes.
func marshalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// describePayload shows a refused value to its sender, as far as is reasonable.
func describePayload(p *commonpb.Payload) string {
	const shownMax = 100 // bytes; enough to recognize a value
	var v any
	if string(p.GetMetadata()[metadataEncoding]) != encodingJSON || json.Unmarshal(p.GetData(), &v) != nil {
		return fmt.Sprintf("%d bytes", len(p.GetData()))
	}
	s := fmt.Sprint(v)
	if len(s) > shownMax {
		s = strings.ToValidUTF8(s[:shownMax], "") + "…"
	}
	return s
}
