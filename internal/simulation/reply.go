package simulation

import (
	"errors"
	"unsafe"

	"github.com/redis/rueidis"
)

// redisError is a server's error reply.
type redisError string

// message is the layout of rueidis.RedisMessage, which has no constructor. A test
// makes sure that each kind reads back.
type message struct {
	attrs *rueidis.RedisMessage
	bytes *byte
	array *rueidis.RedisMessage
	n     int64
	typ   byte
	ttl   [7]byte
}

type result struct {
	err error
	val rueidis.RedisMessage
}

const _ = -(unsafe.Sizeof(message{}) ^ unsafe.Sizeof(rueidis.RedisMessage{})) // the sizes are equal

// reply makes a message of an int64, a string, a redisError, nil, or a slice of these.
func reply(v any) rueidis.RedisMessage {
	var m message
	text := func(typ byte, s string) {
		m.typ, m.bytes, m.n = typ, unsafe.StringData(s), int64(len(s))
	}
	switch v := v.(type) {
	case int64:
		m.typ, m.n = ':', v
	case string:
		text('$', v)
	case redisError:
		text('-', string(v))
	case []any:
		parts := make([]rueidis.RedisMessage, len(v))
		for i := range v {
			parts[i] = reply(v[i])
		}
		m.typ, m.array, m.n = '*', unsafe.SliceData(parts), int64(len(parts))
	case map[string]string:
		parts := make([]rueidis.RedisMessage, 0, 2*len(v))
		for name, value := range v {
			parts = append(parts, reply(name), reply(value))
		}
		m.typ, m.array, m.n = '%', unsafe.SliceData(parts), int64(len(parts))
	default:
		m.typ = '_'
	}
	return *(*rueidis.RedisMessage)(unsafe.Pointer(&m))
}

func answered(v any) rueidis.RedisResult {
	r := result{val: reply(v)}
	return *(*rueidis.RedisResult)(unsafe.Pointer(&r))
}

func failed(err error) rueidis.RedisResult {
	r := result{err: err}
	return *(*rueidis.RedisResult)(unsafe.Pointer(&r))
}

// builder makes commands without a hash slot, as a standalone client's does.
func builder() rueidis.Builder {
	slot := uint16(1 << 15)
	return *(*rueidis.Builder)(unsafe.Pointer(&slot))
}

var (
	errBroken  = errors.New("i/o timeout (simulated)")
	errRefused = errors.New("connection refused (simulated)")
	errClosing = errors.New("the process has ended (simulated)")
)
