#!/usr/bin/env bash
# Runs every fuzz target of the module in turn, FUZZTIME each (default 30s). A crasher is kept by go test under the
# package's testdata/fuzz, to be committed with its fix.
set -euo pipefail
cd "$(dirname "$0")/.."

while IFS=: read -r file target; do
	echo "=== $target in $(dirname "$file")"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}" -fuzzminimizetime 1s "./$(dirname "$file")"
done < <(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/func //' | sort)
