package vk_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"pumice/vk"
)

// The example selects and opens a device, records a shader once and runs it twice. Errors of a Recorder stick until
// Finish.
func Example() {
	in, err := vk.NewInstance(vk.InstanceOptions{})
	if err != nil {
		log.Fatal(err) // errors.Is(err, vk.ErrNoDevice) without a loader or driver
	}
	defer in.Close()
	devices, err := in.Devices()
	if err != nil {
		log.Fatal(err)
	}
	pd, err := vk.Select(devices, os.Getenv("PUMICE_DEVICE"))
	if err != nil {
		log.Fatal(err)
	}
	d, err := pd.Open(vk.DeviceOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close() // also closes everything made on it below

	spirv, err := os.ReadFile("testdata/increment.spv")
	if err != nil {
		log.Fatal(err)
	}
	p, err := d.NewPipeline(vk.PipelineConfig{Name: "increment", SPIRV: spirv, Bindings: []vk.BindingKind{vk.StorageBuffer}})
	if err != nil {
		log.Fatal(err)
	}
	b, err := d.NewBuffer(4*64, vk.Readback)
	if err != nil {
		log.Fatal(err)
	}
	clear(b.Mapped())

	r := d.NewRecorder(vk.RecorderOptions{})
	r.Dispatch(p, []vk.Bind{{Span: b.Whole(), Access: vk.ReadWrite}}, nil, 1, 1, 1)
	c, err := r.Finish()
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		if err := c.Run(context.Background()); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(b.Mapped()[0]) // 2
}
