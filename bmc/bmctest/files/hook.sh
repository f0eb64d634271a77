#!/bin/sh
# What ipmi_sim runs to look at its machine and to switch it: the files power,
# boot and fault in the directory $1 are the machine.
dir=$1 verb=$2
shift 2
if [ "$verb" = get ]; then
	for name; do
		echo "$name:$(cat "$dir/$name" 2>/dev/null || echo 0)"
	done
	exit 0
fi
case $(cat "$dir/fault") in
lying) exit 0 ;;
refusing) exit 1 ;;
slow) sleep 2 ;;
swallow) echo none >"$dir/fault"; exit 0 ;;
esac
echo "$2" >"$dir/$1"
