package shim

/*
#include <stdint.h>
*/
import "C"

import (
	"sync"
	"sync/atomic"
)

// Message is one debug-utils message with raw VkDebugUtilsMessage… bits.
type Message struct {
	Severity, Types uint32
	Number          int32
	Name, Text      string
}

var (
	receivers  sync.Map // uintptr -> func(Message)
	receiverID atomic.Uintptr
)

// Register makes f the receiver of messages sent under the returned id. f may be called on any thread, during any Vulkan call.
func Register(f func(Message)) uintptr {
	id := receiverID.Add(1)
	receivers.Store(id, f)
	return id
}

// Unregister forgets a receiver; later messages for it are dropped.
func Unregister(id uintptr) { receivers.Delete(id) }

//export pumiceVulkanMessage
func pumiceVulkanMessage(id C.uintptr_t, severity, types C.uint32_t, number C.int32_t, name, text *C.char) {
	f, ok := receivers.Load(uintptr(id))
	if !ok {
		return
	}
	f.(func(Message))(Message{uint32(severity), uint32(types), int32(number), C.GoString(name), C.GoString(text)})
}
