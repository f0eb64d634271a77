#!/bin/sh
# What net-snmp's agent runs for the objects of a PDU: each outlet is a file in
# the directory. -g asks for an object, -s sets it.
dir={{.Dir}}
n=${2##*.}
case "$1 $2" in
"-g {{.Get}}."*) [ -f "$dir/$n" ] || exit 0; echo "$2"; echo integer; cat "$dir/$n" ;;
"-s {{.Set}}."*) [ -f "$dir/$n" ] || { echo not-writable; exit 0; }
	[ -f "$dir/lying" ] && exit 0
	case $4 in {{.ToOn}}) echo {{.IsOn}} ;; {{.ToOff}}) echo {{.IsOff}} ;; esac >"$dir/$n" ;;
esac
