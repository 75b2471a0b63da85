package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is committed, and embedded in the program, is what the modules of go.mod say.
func TestNoticesAreThoseOfLinkedModules(t *testing.T) {
	t.Parallel()
	top := filepath.Join("..", "..")
	want, err := generate(top)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range want {
		got, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			t.Errorf("%v: run make licenses", err)
		} else if diff := cmp.Diff(string(content), string(got)); diff != "" {
			t.Errorf("%s is stale, run make licenses: %s", name, diff)
		}
	}
	err = fs.WalkDir(os.DirFS(top), moduleDir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && want[name] == nil {
			t.Errorf("%s is of a module that is not linked: run make licenses", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"                                 Apache License\n                           Version 2.0, January 2004", "Apache-2.0"},
		{"Permission is hereby granted, free of charge, to any person obtaining\na copy of", "MIT"},
		{"Redistribution and use in source and binary forms, with or without\nmodification, are permitted", "BSD-2-Clause"},
		{"> Redistribution and use in source and binary forms, with or without\n> modification, are permitted", "BSD-2-Clause"},
		{"Redistribution and use in source and binary forms, with or without modification\n" +
			"Neither the name may be used to endorse or promote products derived from\nthis software without specific", "BSD-3-Clause"},
		{"Permission is hereby granted, free of charge, to any person obtaining a copy\nRedistribution and use in source and binary forms, with or without modification",
			"MIT AND BSD-2-Clause"},
		{"All rights reserved.", ""},
	} {
		if got := identify(c.text); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

func TestCopyrights(t *testing.T) {
	t.Parallel()
	text := "MIT\n\nCopyright (c) 2019 A\n> Copyright © 2020 B \ncopyright notice, and\nCopyright 2009 C.\nThe above copyright notice\nCopyright (c) 2019 A\n"
	if diff := cmp.Diff([]string{"Copyright (c) 2019 A", "Copyright © 2020 B", "Copyright 2009 C."}, copyrights(text)); diff != "" {
		t.Error(diff)
	}
}
