// Package console carries the serial consoles of machines to the people who
// watch them, and keeps what the machines said.
//
// A [Hub] opens a machine's console once, however many watch it: BMCs have one.
// What comes goes to every watcher; one who is too slow is dropped, never waited
// for. Whoever wants to type takes the keyboard, and everybody is told. While a
// run works on a machine, and always where a pool says so, the hub keeps the
// console open by itself and writes it into an [Archive], a record for each boot.
//
// What a machine writes is hostile: the archive is bounded, and text that leaves
// for people or logs has no control characters left.
package console
