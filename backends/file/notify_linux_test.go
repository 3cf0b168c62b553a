package file

import (
	"encoding/binary"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

var buffer []byte // on the heap, as in a hub: pointers into a stack are not checked

// A burst of events fills the buffer to its last byte. With the race detector, a pointer
// beyond it ends the process.
func TestEventsUpToTheLastByteOfTheBufferAreRead(t *testing.T) {
	buffer = make([]byte, 4096)
	const events = 4096 / syscall.SizeofInotifyEvent
	for i := range uint32(events) {
		event := buffer[i*syscall.SizeofInotifyEvent:]
		binary.NativeEndian.PutUint32(event, i+1)
		binary.NativeEndian.PutUint32(event[4:], syscall.IN_MODIFY)
	}
	var marks []int32
	new(notifier).events(buffer, func(mark int32, what uint32) {
		require.EqualValues(t, syscall.IN_MODIFY, what)
		marks = append(marks, mark)
	})
	require.Len(t, marks, events)
	require.EqualValues(t, events, marks[events-1])
}
