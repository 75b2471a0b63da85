//go:build cgo

package vk

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"
	vulkan "github.com/vulkan-go/vulkan"

	"pumice/vk/internal/shim"
)

// InstanceOptions configure NewInstance. The zero value is a plain instance that logs nothing.
type InstanceOptions struct {
	Surfaces   bool           // the extensions that windows need, as far as the loader has them
	Validation bool           // VK_LAYER_KHRONOS_validation with synchronization validation; an error if the layer is missing
	Logger     zerolog.Logger // receives messages of the loader and the layers; its zero value logs nothing
	OnMessage  func(Message)  // called for each message on any thread, before the Vulkan call that caused it returns
}

// Severity of a Message.
type Severity int

// Severities that are reported.
const (
	SeverityWarning Severity = iota
	SeverityError
)

// Message is one message of the loader or a validation layer.
type Message struct {
	Severity    Severity
	General     bool // from the loader or a driver, about neither validity nor performance
	Performance bool
	ID          string // "VUID-vkCmdDispatch-None-02697"
	Number      int32
	Text        string
}

// Instance is the connection to the Vulkan loader.
type Instance struct {
	shim      *shim.Instance
	surfaces  bool
	messageID uintptr
	log       zerolog.Logger

	mu      sync.Mutex
	devices map[*Device]struct{}
	closed  bool
	leaked  atomic.Bool // a device was not destroyed, so the instance is not either
}

// loaderMu serialises opening the loader and setting vulkan-go's function pointers, which are process globals.
var loaderMu sync.Mutex

// vulkanGoReady says that vulkan-go's function pointers are set. They come from the loader and are valid for every
// instance.
var vulkanGoReady bool

// NewInstance opens the system's Vulkan loader and creates an instance. Without a loader or a driver the error is ErrNoDevice.
func NewInstance(o InstanceOptions) (*Instance, error) {
	loaderMu.Lock()
	defer loaderMu.Unlock()
	proc := shim.Load()
	if proc == nil {
		return nil, fmt.Errorf("vk: no Vulkan loader library on this machine (libvulkan.so.1, vulkan-1.dll or libvulkan.1.dylib; Debian: apt install libvulkan1 mesa-vulkan-drivers): %w", ErrNoDevice)
	}
	in := &Instance{log: o.Logger, surfaces: o.Surfaces, devices: map[*Device]struct{}{}}
	in.messageID = shim.Register(func(m shim.Message) { in.message(m, o.OnMessage) })
	s, r := shim.NewInstance(o.Validation, o.Surfaces, in.messageID)
	if r != 0 {
		shim.Unregister(in.messageID)
		if Result(r) == ErrorIncompatible { // the loader has found no driver that works
			return nil, fmt.Errorf("vk: no Vulkan driver is installed (Debian: apt install mesa-vulkan-drivers): %w", ErrNoDevice)
		}
		return nil, &Error{Call: "vkCreateInstance", Result: Result(r)}
	}
	in.shim = s
	if !vulkanGoReady {
		vulkan.SetGetInstanceProcAddr(proc)
		err := vulkan.Init()
		if err == nil {
			err = vulkan.InitInstance(vulkan.Instance(s.Handle()))
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("vk: %w", err), in.Close())
		}
		vulkanGoReady = true
	}
	return in, nil
}

func (in *Instance) message(m shim.Message, on func(Message)) {
	msg := Message{ID: m.Name, Number: m.Number, Text: m.Text, General: m.Types == 1, Performance: m.Types&4 != 0}
	event := in.log.Warn()
	if m.Severity >= 0x1000 { // VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT
		msg.Severity = SeverityError
		event = in.log.Error()
	}
	event.Str("id", msg.ID).Msg(msg.Text)
	if on != nil {
		on(msg)
	}
}

// Devices lists the devices that have Vulkan 1.1 or newer, in the loader's order. Older ones are logged and left out.
func (in *Instance) Devices() ([]*PhysicalDevice, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil, fmt.Errorf("vk: instance: %w", ErrClosed)
	}
	handles, r := in.shim.Devices()
	if r != 0 {
		return nil, check(r, "vkEnumeratePhysicalDevices", "")
	}
	var list []*PhysicalDevice
	for _, h := range handles {
		pd := newPhysicalDevice(in, h, in.shim.Query(h))
		if !pd.APIVersion.AtLeast(1, 1) || pd.computeFamily < 0 {
			in.log.Warn().Str("device", pd.Name).Stringer("api", pd.APIVersion).Msg("device left out: needs Vulkan 1.1 and a compute queue")
			continue
		}
		pd.Index = len(list)
		list = append(list, pd)
	}
	return list, nil
}

// Close closes the devices opened on the instance, then the instance.
func (in *Instance) Close() error {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return nil
	}
	in.closed = true
	devices := make([]*Device, 0, len(in.devices))
	for d := range in.devices {
		devices = append(devices, d)
	}
	in.mu.Unlock()
	var errs []error
	for _, d := range devices {
		errs = append(errs, d.Close())
	}
	if in.leaked.Load() {
		return errors.Join(errs...)
	}
	in.shim.Destroy()
	shim.Unregister(in.messageID)
	return errors.Join(errs...)
}
