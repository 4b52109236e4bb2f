package postgres

import (
	"encoding/binary"
	"encoding/hex"
)

// The types of the columns that are written in arrays, by their fixed object ids.
const (
	oidBool  = 16
	oidBytea = 17
	oidInt8  = 20
	oidInt2  = 21
	oidInt4  = 23
	oidText  = 25
	oidUUID  = 2950
)

// arrayHeader is the size of a one-dimensional array's header: dimensions, null flag, element type, length, lower bound.
const arrayHeader = 20

// array builds a one-dimensional array in PostgreSQL's binary format. A group writes thousands of values, so there is no reflection
// here, and the buffer is used again by the next group.
type array struct {
	oid   uint32
	n     int
	nulls bool
	buf   []byte
}

func newArray(oid uint32) *array { return &array{oid: oid, buf: make([]byte, arrayHeader, 512)} }

// bufferKeptMax is what an array keeps for the next group; one large member must not pin its size forever.
const bufferKeptMax = 256 << 10

func (a *array) reset() {
	a.n, a.nulls = 0, false
	if cap(a.buf) > bufferKeptMax {
		a.buf = make([]byte, arrayHeader, 512)
	}
	a.buf = a.buf[:arrayHeader]
}

// value completes the header. The result is valid until the next change.
func (a *array) value() []byte {
	header := a.buf[:arrayHeader]
	flag := uint32(0)
	if a.nulls {
		flag = 1
	}
	binary.BigEndian.PutUint32(header[0:], 1)
	binary.BigEndian.PutUint32(header[4:], flag)
	binary.BigEndian.PutUint32(header[8:], a.oid)
	binary.BigEndian.PutUint32(header[12:], uint32(a.n))
	binary.BigEndian.PutUint32(header[16:], 1)
	return a.buf
}

func (a *array) length(n int) {
	a.n++
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(n))
}

func (a *array) null() {
	a.n++
	a.nulls = true
	a.buf = binary.BigEndian.AppendUint32(a.buf, 0xFFFFFFFF)
}

func (a *array) int16(v int16) {
	a.length(2)
	a.buf = binary.BigEndian.AppendUint16(a.buf, uint16(v))
}

func (a *array) int32(v int32) {
	a.length(4)
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(v))
}

func (a *array) int64(v int64) {
	a.length(8)
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(v))
}

func (a *array) bool(v bool) {
	a.length(1)
	if v {
		a.buf = append(a.buf, 1)
		return
	}
	a.buf = append(a.buf, 0)
}

func (a *array) uuid(v uuidBytes) {
	a.length(len(v))
	a.buf = append(a.buf, v[:]...)
}

func (a *array) text(v string) {
	a.length(len(v))
	a.buf = append(a.buf, v...)
}

func (a *array) bytes(v []byte) {
	a.length(len(v))
	a.buf = append(a.buf, v...)
}

// bytesOrNull stores what is empty as NULL: it takes no room, and "has events" becomes a test that reads no data.
func (a *array) bytesOrNull(v []byte) {
	if len(v) == 0 {
		a.null()
		return
	}
	a.bytes(v)
}

func (a *array) textOrNull(v string) {
	if v == "" {
		a.null()
		return
	}
	a.text(v)
}

// uuidBytes is a namespace or run id as stored.
type uuidBytes [16]byte

// uuidLength is the length of the text form.
const uuidLength = 36

// parseUUID takes the standard text form only.
func parseUUID(s string) (id uuidBytes, ok bool) {
	if len(s) != uuidLength || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return uuidBytes{}, false
	}
	var digits [32]byte
	n := copy(digits[:], s[:8])
	n += copy(digits[n:], s[9:13])
	n += copy(digits[n:], s[14:18])
	n += copy(digits[n:], s[19:23])
	copy(digits[n:], s[24:])
	if _, err := hex.Decode(id[:], digits[:]); err != nil {
		return uuidBytes{}, false
	}
	return id, true
}

func (u uuidBytes) String() string {
	var out [uuidLength]byte
	hex.Encode(out[:8], u[:4])
	out[8] = '-'
	hex.Encode(out[9:13], u[4:6])
	out[13] = '-'
	hex.Encode(out[14:18], u[6:8])
	out[18] = '-'
	hex.Encode(out[19:23], u[8:10])
	out[23] = '-'
	hex.Encode(out[24:], u[10:])
	return string(out[:])
}
