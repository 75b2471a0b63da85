// Command isareport reports on the code that drivers' compilers generate for the kernels, without a GPU.
// tools/isa.sh runs it once on each driver, and then to write the report.
//
//	isareport list FILE [PEER]     writes the kernels of plans on the driver's device into FILE; PEER: llama.cpp's Vulkan library
//	isareport collect FILE I N     writes shard I of N of the driver's records of them as JSON
//	isareport report REPORT DIR    puts the tables of DIR/DEVICE.json into the file REPORT
//	isareport check REPORT DIR     fails if those of one device a compiler, or of Intel's devices that DIR has, break a rule, or
//	                               are worse than REPORT's or the peer's
//	isareport intel REPORT DIR     puts the table of Intel's devices into REPORT
//	isareport counts COUNTS DIR    puts into COUNTS what predictions need of those DIR/DEVICE.json that there are
//	isareport predict COUNTS TEXT  puts predictions of speed into the file TEXT, or with
//	    -                          prints them; with the name of a device its kernels; with REPORT.json of tools/gpu-lab.sh
//	                               predictions with what that measured, beside it
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// devices are the names of tools/mesa.sh, in the order of columns.
var devices = []string{"navi21", "navi31", "gfx1201", "turing", "ampere"}

// checkedDevices are one of each compiler: what breaks a rule on others shows when their table is written.
var checkedDevices = []string{"navi31", "ampere"}

// intelDevices are those of tools/intel.sh.
var intelDevices = []string{"tgl", "dg2", "bmg"}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "isareport:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 2 && len(args) <= 3 && args[0] == "list":
		library := ""
		if len(args) == 3 {
			library = args[2]
		}
		return list(context.Background(), args[1], library)
	case len(args) == 4 && args[0] == "collect":
		shard, err := strconv.Atoi(args[2])
		shards, err2 := strconv.Atoi(args[3])
		if err != nil || err2 != nil || shard < 0 || shard >= shards {
			return fmt.Errorf("collect: shard %s of %s", args[2], args[3])
		}
		records, err := collect(args[1], shard, shards)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(records)
	case len(args) == 3 && (args[0] == "report" || args[0] == "check" || args[0] == "intel"):
		names := map[string][]string{"report": devices, "check": checkedDevices, "intel": intelDevices}[args[0]]
		if args[0] == "check" {
			for _, d := range intelDevices {
				if _, err := os.Stat(filepath.Join(args[2], d+".json")); err == nil {
					names = append(names, d)
				}
			}
		}
		all, err := read(args[2], names)
		if err != nil {
			return err
		}
		report := newReport(all)
		old, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		if args[0] == "check" {
			return report.check(string(old))
		}
		write := report.write
		if args[0] == "intel" {
			write = report.writeIntel
		}
		text, err := write(string(old))
		if err != nil {
			return fmt.Errorf("%s: %w", args[1], err)
		}
		if err := os.WriteFile(args[1], []byte(text), 0o644); err != nil || args[0] == "intel" {
			return err
		}
		return report.check(text)
	case len(args) == 3 && args[0] == "counts":
		return putCounts(context.Background(), args[1], args[2])
	case len(args) == 3 && args[0] == "predict":
		return runPredict(context.Background(), args[1], args[2])
	}
	return errors.New("usage: isareport list FILE [PEER] | collect FILE I N | report REPORT DIR | check REPORT DIR | intel REPORT DIR | counts COUNTS DIR | predict COUNTS TEXT")
}

// putCounts puts the counts that predictions take of the devices in dir into a file.
func putCounts(ctx context.Context, file, dir string) error {
	var names []string
	for _, d := range slices.Concat(devices, intelDevices) {
		if _, err := os.Stat(filepath.Join(dir, d+".json")); err == nil {
			names = append(names, d)
		}
	}
	all, err := read(dir, names)
	if err != nil {
		return err
	}
	list, err := plans(ctx)
	if err != nil {
		return err
	}
	return writeCounts(file, used(all, list))
}

// runPredict predicts with the counts of a file.
func runPredict(ctx context.Context, counts, what string) error {
	isReport := strings.HasSuffix(what, ".json")
	device := slices.ContainsFunc(gpus, func(g gpu) bool { return g.name == what })
	if !isReport && !device && what != "-" {
		return document(ctx, what, counts)
	}
	list, err := predictAll(ctx, counts, nil)
	if err != nil {
		return err
	}
	switch {
	case isReport:
		m, err := readMeasurements(what)
		if err != nil {
			return err
		}
		after, err := predictAll(ctx, counts, m)
		if err != nil {
			return err
		}
		fmt.Print(beside(list, after, m))
	case device:
		for _, p := range list {
			if p.gpu.name == what {
				fmt.Println(p.kernelRows())
			}
		}
	default:
		fmt.Print(predictionRows(list))
	}
	return nil
}

// read reads what collect has written of devices.
func read(dir string, devices []string) (map[string][]Record, error) {
	all := map[string][]Record{}
	for _, d := range devices {
		f, err := os.Open(filepath.Join(dir, d+".json"))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		for in := json.NewDecoder(f); in.More(); {
			var list []Record
			if err := in.Decode(&list); err != nil {
				return nil, fmt.Errorf("%s: %w", d, err)
			}
			all[d] = append(all[d], list...)
		}
	}
	return all, nil
}
