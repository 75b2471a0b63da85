package pumice

import (
	"encoding/hex"
	"errors"
	"fmt"

	"pumice/model"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A DeviceInfo describes a Vulkan device of this machine.
type DeviceInfo struct {
	Index        int      `json:"index"`
	Name         string   `json:"name"`
	Vendor       string   `json:"vendor"`
	Driver       string   `json:"driver"` // name and version, as the driver reports them
	Type         string   `json:"type"`   // "discrete", "integrated", "virtual", "cpu" or "other"
	UUID         string   `json:"uuid"`
	PCIID        string   `json:"pci_id"` // vendor and device, such as 1002:744c; Mesa's CPU drivers have numbers of their own
	APIVersion   string   `json:"api_version"`
	MemoryTotal  int64    `json:"memory_total"` // bytes of device-local memory; of a CPU driver the machine's
	MemoryFree   int64    `json:"memory_free"`  // bytes left for this process, which models have to fit in; the total if the driver doesn't say
	SubgroupSize int      `json:"subgroup_size"`
	Features     []string `json:"features"`
	KernelPaths  []string `json:"kernel_paths"`    // kernel paths that the device would use, see KernelPaths
	Error        string   `json:"error,omitempty"` // why the device can't be used; "" if it can
}

// Devices lists this machine's Vulkan devices, including those that can't be used; DeviceInfo.Error says why. It uses only
// the options Logger, Validation and KernelPath. If there is no Vulkan loader or no driver, the error matches
// ErrNoDevice.
func Devices(o Options) (devices []DeviceInfo, err error) {
	if _, err := o.settings(); err != nil {
		return nil, err
	}
	in, err := vk.NewInstance(vk.InstanceOptions{Validation: o.Validation, Logger: o.Logger})
	if err != nil {
		return nil, fmt.Errorf("pumice: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	found, err := in.Devices()
	if err != nil {
		return nil, fmt.Errorf("pumice: %w", err)
	}
	for _, pd := range found {
		d := describe(pd)
		if err := probe(&d, pd, o); err != nil {
			d.Error = err.Error()
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// probe opens a device and fills in the fields that need an open device.
func probe(d *DeviceInfo, pd *vk.PhysicalDevice, o Options) (err error) {
	dev, err := pd.Open(vk.DeviceOptions{Logger: o.Logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	if d.MemoryTotal, d.MemoryFree, err = model.DeviceMemory(dev); err != nil {
		return err
	}
	m, err := pipeline.NewManager(dev, pipeline.Options{Logger: o.Logger, Path: kernels.Path(o.KernelPath)})
	if err != nil {
		return err
	}
	d.KernelPaths = pathNames(m.Chosen())
	return m.Close()
}

func pathNames(paths []kernels.Path) []string {
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = string(p)
	}
	return names
}

// KernelPaths lists the values of Options.KernelPath. A kernel path is a set of kernels for one kind of device, such as
// "sg" for GPUs with subgroup arithmetic; a device runs a path only if it has the features that the path needs.
func KernelPaths() []string { return pathNames(kernels.Paths) }

// describe returns what is known about a device that is not open.
func describe(pd *vk.PhysicalDevice) DeviceInfo {
	d := DeviceInfo{
		Index: pd.Index, Name: pd.Name, Vendor: pd.Vendor, Driver: pd.Driver, Type: pd.Type.String(),
		UUID: hex.EncodeToString(pd.UUID[:]), PCIID: fmt.Sprintf("%04x:%04x", pd.VendorID, pd.DeviceID), APIVersion: pd.APIVersion.String(), SubgroupSize: pd.Limits.SubgroupSize,
		Features: features(pd), KernelPaths: []string{},
	}
	if pd.DriverInfo != "" {
		d.Driver += " " + pd.DriverInfo
	}
	for _, h := range pd.Heaps {
		if h.DeviceLocal {
			d.MemoryTotal += h.Bytes
		}
	}
	return d
}

// features names the optional features that the device has.
func features(pd *vk.PhysicalDevice) []string {
	f := pd.Features
	names := []string{}
	for _, c := range []struct {
		has  bool
		name string
	}{
		{f.ShaderFloat16, "fp16"},
		{f.ShaderInt8, "int8"},
		{f.ShaderInt16, "int16"},
		{f.ShaderInt64, "int64"},
		{f.StorageBuffer8Bit, "storage8"},
		{f.StorageBuffer16Bit, "storage16"},
		{f.IntegerDotProduct, "integer-dot"},
		{f.IntegerDotProductAccelerated, "integer-dot-accelerated"},
		{f.IntegerDotProductMixedAccelerated, "integer-dot-mixed-accelerated"},
		{f.FloatDotProduct, "float-dot"},
		{f.SubgroupArithmetic, "subgroup-arithmetic"},
		{f.SubgroupShuffle, "subgroup-shuffle"},
		{f.SubgroupClustered, "subgroup-clustered"},
		{f.SubgroupSizeControl, "subgroup-size-control"},
		{f.TimelineSemaphore, "timeline-semaphore"},
		{f.Synchronization2, "synchronization2"},
		{f.BufferDeviceAddress, "buffer-device-address"},
		{f.VulkanMemoryModel, "memory-model"},
		{f.MemoryBudget, "memory-budget"},
		{f.ExternalMemoryHost, "external-memory-host"},
		{f.MatrixPerElement, "matrix-per-element"},
		{f.MatrixTensors, "matrix-tensors"},
		{f.MatrixBlockLoads, "matrix-block-loads"},
	} {
		if c.has {
			names = append(names, c.name)
		}
	}
	for _, shape := range f.CooperativeMatrix {
		names = append(names, "cooperative-matrix "+shape.String())
	}
	for _, shape := range f.FlexibleMatrix {
		names = append(names, "flexible-matrix "+shape.String())
	}
	return names
}
