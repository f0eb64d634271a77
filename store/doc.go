// Package store keeps the world of provision in one SQLite file, and the leases
// of the last while in a journal beside it.
//
// [Store.Load] returns what the engine knew when it last ran, [Store.Save]
// stores what one decision changed, whole or not at all, and
// [Store.SaveLeases] many leases with one sync to the disk. What these
// methods have returned survives kill -9 and a power cut: SQLite's write-ahead
// log, and ours, are synced before anything is acknowledged.
//
// Leases have a log of their own because the DHCP server waits for them with
// answers in its hand, thousands in a second. With a million of them in the
// table, each new one changes a page of its index somewhere: that took 130 µs
// of CPU and 16 kB of disk for each, where the journal takes 0.3 µs and 50
// bytes ([leaseLog]). The table has them later, sorted and many at a time, and
// it says the last word: an address has one lease, a client one bound lease on a
// subnet, and nobody takes the address of another while his lease lasts
// ([merge]).
//
// A row is a document and the columns that SQL needs. The document holds
// everything and has a checksum; the columns are derived from it and are
// compared with it when it is read, so that a damaged file is found out and
// never believed.
//
// The store never forgets in silence. A file beside the database remembers
// that there is one: a database that is missing, empty, damaged or newer than
// this program is an error that says what to do, not a fresh start.
package store
