package vk_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"pumice/vk"
)

// collect opens a device and keeps its validation messages.
func collect(t *testing.T) (*vk.Device, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var ids []string
	in, err := vk.NewInstance(vk.InstanceOptions{Validation: true, OnMessage: func(m vk.Message) {
		mu.Lock()
		defer mu.Unlock()
		if !m.General {
			ids = append(ids, m.ID+": "+m.Text)
		}
	}})
	if errors.Is(err, vk.ErrNoValidation) || errors.Is(err, vk.ErrNoDevice) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	devices, err := in.Devices()
	if err != nil {
		t.Fatal(err)
	}
	pd, err := vk.Select(devices, os.Getenv("PUMICE_DEVICE"))
	if err != nil {
		t.Skip(err)
	}
	d, err := pd.Open(vk.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), ids...)
	}
}

// The other tests see no validation message, which proves something only if mistakes cause one.
func TestValidationSeesMistakes(t *testing.T) {
	t.Run("a binding missing from the layout", func(t *testing.T) {
		d, messages := collect(t)
		p, err := d.NewPipeline(vk.PipelineConfig{Name: "add", SPIRV: spirv(t, "add"), Bindings: storage3[:2], PushBytes: 8, Spec: []uint32{64, 0}})
		if err == nil {
			p.Close()
		}
		if len(messages()) == 0 {
			t.Error("no message")
		}
	})
	t.Run("a write declared as a read", func(t *testing.T) {
		d, messages := collect(t)
		a, b, c := newBuffer(t, d, 4096, vk.DeviceLocal).Whole(), newBuffer(t, d, 4096, vk.DeviceLocal).Whole(), newBuffer(t, d, 4096, vk.DeviceLocal).Whole()
		p := addPipeline(t, d, 64, 0)
		r := d.NewRecorder(vk.RecorderOptions{})
		r.Dispatch(p, []vk.Bind{{Span: a}, {Span: a}, {Span: b, Access: vk.Read}}, addPush(1024, 1), 16, 1, 1)
		r.Dispatch(p, addBinds(b, a, c), addPush(1024, 1), 16, 1, 1)
		run(t, finish(t, r))
		if list := messages(); len(list) == 0 || !strings.Contains(list[0], "SYNC-HAZARD") {
			t.Errorf("messages %q", list)
		}
	})
}
