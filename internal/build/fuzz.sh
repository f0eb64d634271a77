#!/bin/sh
# Runs every fuzz test for a short while: FUZZTIME each, 20 s unless told.
# Making an interesting input smaller may take no longer than a second: else
# that is all that happens in so short a time.
set -eu
grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r name; do
		echo "$name in $(dirname "$file")"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-20s}" -fuzzminimizetime 1s "$(dirname "$file")"
	done
done
