package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/internal/humanize"
)

func (p *program) devicesCommand() *cli.Command {
	return &cli.Command{
		Name:     "devices",
		Category: ofDevices,
		Usage:    "list the Vulkan devices of this machine",
		Flags:    []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noMoreArgs(c, 0); err != nil {
				return err
			}
			devices, err := pumice.Devices(p.options(c))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return p.writeJSON(devices)
			}
			for _, d := range devices {
				if err := p.printDevice(d); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (p *program) printDevice(d pumice.DeviceInfo) error {
	if err := p.printf("%d  %s\n   %s, %s driver %s, Vulkan %s\n   uuid %s\n", d.Index, d.Name, d.Type, d.Vendor, d.Driver, d.APIVersion, d.UUID); err != nil {
		return err
	}
	if d.Error != "" {
		return p.printf("   not usable: %s\n", d.Error)
	}
	return p.printf("   memory %s, %s available; subgroups of %d; kernels %s\n   %s\n",
		humanize.Bytes(d.MemoryTotal), humanize.Bytes(d.MemoryFree), d.SubgroupSize, strings.Join(d.KernelPaths, ", "), strings.Join(d.Features, ", "))
}
