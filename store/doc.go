// Package store keeps the world of provision in one SQLite file.
//
// [Store.Load] returns what the engine knew when it last ran, [Store.Save]
// stores what one decision changed, whole or not at all, and
// [Store.SaveLeases] many leases with one sync to the disk. What these
// methods have returned survives kill -9 and a power cut: the journal is a
// write-ahead log that is synced before a transaction is acknowledged.
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
