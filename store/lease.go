package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// OR REPLACE does what a lease means: it takes the place of the one that had
// the address, and of the one that the same client had on this subnet. With
// upsertLeases behind the values, those of addresses that another client holds
// now are passed over.
const (
	insertLeases = "INSERT OR REPLACE INTO leases (addr, subnet, mac, state, expires, hostname, client_id, sum) VALUES "
	leaseValues  = "(?, ?, ?, ?, ?, ?, ?, ?)"
	upsertLeases = " ON CONFLICT (addr) DO UPDATE SET subnet = excluded.subnet, mac = excluded.mac, state = excluded.state, expires = excluded.expires," +
		" hostname = excluded.hostname, client_id = excluded.client_id, sum = excluded.sum" +
		" WHERE leases.mac = excluded.mac OR leases.state <> 1 OR leases.expires <= %d"
	deleteLease  = "DELETE FROM leases WHERE addr = ?"
	selectLeases = "SELECT addr, subnet, mac, state, expires, hostname, client_id, sum FROM leases ORDER BY addr"
)

// leasesPerInsert is how many leases go into one statement. More gain nothing:
// the driver looks up each argument among all of them.
const leasesPerInsert = 8

type leaseRow struct {
	Addr     int64
	Subnet   string
	MAC      int64
	State    int64
	Expires  int64
	Hostname string
	ClientID string
	Sum      int64
}

// SaveLeases stores leases; when it returns nil they are all on the disk. A
// lease takes the place of the one that its address had, and a bound one of the
// one that its client had on the same subnet. Of up to 4096 leases, all are
// stored or none.
func (s *Store) SaveLeases(ctx context.Context, leases []fleet.Lease) error {
	for i := range leases {
		if err := checkLease(&leases[i]); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(leases, maxBatch) {
		if err := s.leases.append(ctx, some); err != nil {
			return s.fault("save leases", err)
		}
	}
	return nil
}

// EachLease calls do for the leases, in the order in which they were stored as
// far as that matters: one that comes later takes the place of an earlier one of
// its address, or of its client on the subnet.
func (s *Store) EachLease(ctx context.Context, do func(fleet.Lease)) error {
	journals := s.leases.hold()
	defer s.leases.release()
	if err := s.eachRow(ctx, do); err != nil {
		return err
	}
	for _, j := range journals {
		if err := j.each(j.end, do); err != nil {
			return s.damaged(err)
		}
	}
	return nil
}

// MergeLeases brings all leases from their journals into the table, so that the
// database alone has everything.
func (s *Store) MergeLeases(ctx context.Context) error {
	return s.leases.mergeAll(ctx, 0)
}

// eachRow calls do for the leases in the table. It goes past gorm, which would
// cost more than SQLite does: a million of them are read at the start.
func (s *Store) eachRow(ctx context.Context, do func(fleet.Lease)) error {
	db, err := s.read.DB()
	if err != nil {
		return s.fault("read leases", err)
	}
	// Not to be interrupted: the driver would watch the context for each row.
	rows, err := db.QueryContext(context.WithoutCancel(ctx), selectLeases)
	if err != nil {
		return s.fault("read leases", err)
	}
	defer rows.Close()
	subnets := make(map[string]string)
	var subnet sql.RawBytes
	var buf []byte
	for rows.Next() {
		var r leaseRow
		if err := rows.Scan(&r.Addr, &subnet, &r.MAC, &r.State, &r.Expires, &r.Hostname, &r.ClientID, &r.Sum); err != nil {
			return s.fault("read leases", err)
		}
		r.Subnet = shared(subnet, subnets)
		state, ok := leaseState(byte(r.State)) //nolint:gosec // the checksum is right
		if buf = r.appendFields(buf[:0]); r.Sum != int64(crc32.Checksum(buf, castagnoli)) || !ok {
			return s.damaged(fmt.Errorf("lease %s: the checksum does not fit", fromAddr(r.Addr)))
		}
		do(r.lease(state))
	}
	return s.fault("read leases", rows.Err())
}

// inTransaction runs work in a transaction on the one connection that writes.
func (s *Store) inTransaction(ctx context.Context, work func(*sql.Tx) error) error {
	db, err := s.write.DB()
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func toLeaseRow(l *fleet.Lease) leaseRow {
	var mac [8]byte
	b, _ := macBytes(l.MAC)
	copy(mac[2:], b[:])
	r := leaseRow{
		Addr: toAddr(l.Addr), Subnet: l.Subnet, MAC: int64(binary.BigEndian.Uint64(mac[:])), State: int64(leaseStates[l.State]), //nolint:gosec // 48 bits
		Expires: toNano(l.Expires), Hostname: l.Hostname, ClientID: l.ClientID,
	}
	r.Sum = r.checksum()
	return r
}

func (r *leaseRow) lease(state fleet.LeaseState) fleet.Lease {
	var mac [8]byte
	binary.BigEndian.PutUint64(mac[:], uint64(r.MAC)) //nolint:gosec // written the same way
	return fleet.Lease{
		Addr: fromAddr(r.Addr), Subnet: r.Subnet, MAC: fleet.MAC(net.HardwareAddr(mac[2:]).String()), State: state,
		Expires: fromNano(r.Expires), Hostname: r.Hostname, ClientID: r.ClientID,
	}
}

func toAddr(a netip.Addr) int64 {
	b := a.As4()
	return int64(binary.BigEndian.Uint32(b[:]))
}

func fromAddr(n int64) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(n))
	return netip.AddrFrom4(a)
}

func (r *leaseRow) checksum() int64 {
	return int64(crc32.Checksum(r.appendFields(nil), castagnoli))
}

// appendFields writes what the checksum is of.
func (r *leaseRow) appendFields(b []byte) []byte {
	for _, n := range []int64{r.Addr, r.MAC, r.State, r.Expires} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	for _, s := range []string{r.Subnet, r.Hostname, r.ClientID} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}
