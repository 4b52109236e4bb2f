package visibility

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/serviceerror"

	"github.com/perdure/perdure/persistence"
)

// PageMax is the largest page of a list, and the size of one when the client does not say.
const PageMax = 1000

// PageSize is the number of rows of a page when a client asks for n.
func PageSize(n int32) int {
	if n <= 0 || n > PageMax {
		return PageMax
	}
	return int(n)
}

// pageToken is a cursor as clients carry it. Times are nanoseconds since 1970.
type pageToken struct {
	Close *int64 `json:"close,omitempty"` // absent: the run was open
	Start int64  `json:"start"`
	RunID string `json:"run"`
}

// EncodePageToken makes the token that continues after a row.
func EncodePageToken(row *persistence.VisibilityRow) []byte {
	t := pageToken{Start: row.StartTime.UnixNano(), RunID: row.RunID}
	if !row.CloseTime.IsZero() {
		closed := row.CloseTime.UnixNano()
		t.Close = &closed
	}
	b, err := json.Marshal(t)
	if err != nil {
		return nil // unreachable: two numbers and a string
	}
	return b
}

// DecodePageToken reads a token; an empty one is the first page, nil. Errors are INVALID_ARGUMENT.
func DecodePageToken(token []byte) (*persistence.VisibilityCursor, error) {
	if len(token) == 0 {
		return nil, nil
	}
	invalid := serviceerror.NewInvalidArgument("Invalid NextPageToken.")
	d := json.NewDecoder(bytes.NewReader(token))
	d.DisallowUnknownFields()
	var t pageToken
	if err := d.Decode(&t); err != nil {
		return nil, invalid
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid
	}
	if err := uuid.Validate(t.RunID); err != nil {
		return nil, invalid
	}
	cursor := &persistence.VisibilityCursor{StartTime: time.Unix(0, t.Start).UTC(), RunID: t.RunID}
	if t.Close != nil {
		cursor.CloseTime = time.Unix(0, *t.Close).UTC()
	}
	return cursor, nil
}
