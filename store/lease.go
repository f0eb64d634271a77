package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// OR REPLACE does what a lease means: it takes the place of the one that had
// the address, and of the one that the same client had on this subnet.
const (
	insertLeases = "INSERT OR REPLACE INTO leases (addr, subnet, client, mac, client_id, hostname, state, expires, sum) VALUES "
	leaseValues  = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

// leasesPerInsert is how many leases go into one statement. More gain nothing:
// the driver looks up each argument among all of them.
const leasesPerInsert = 8

type leaseRow struct {
	Addr     int64 `gorm:"primaryKey;autoIncrement:false"`
	Subnet   string
	Client   string
	MAC      string
	ClientID string
	Hostname string
	State    string
	Expires  int64
	Sum      int64
}

func (leaseRow) TableName() string { return "leases" }

// SaveLeases stores leases in one transaction; when it returns nil they are
// all on the disk. A lease takes the place of the one that its address had,
// and a bound one of the one that its client had on the same subnet.
//
// It goes past gorm, which would cost more than SQLite does: the DHCP server
// waits for it with answers in its hand.
func (s *Store) SaveLeases(ctx context.Context, leases []fleet.Lease) error {
	rows := make([]leaseRow, 0, len(leases))
	for _, l := range leases {
		row, err := toLeaseRow(l)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	db, err := s.write.DB()
	if err != nil {
		return s.fault("save leases", err)
	}
	return s.fault("save leases", insertAll(ctx, db, rows))
}

func insertAll(ctx context.Context, db *sql.DB, rows []leaseRow) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	// Not to be interrupted half-way: the driver would start a goroutine for
	// each statement to watch the context.
	steady := context.WithoutCancel(ctx)
	args := make([]any, 0, leasesPerInsert*strings.Count(leaseValues, "?"))
	for some := range slices.Chunk(rows, leasesPerInsert) {
		args = args[:0]
		for _, r := range some {
			args = append(args, r.Addr, r.Subnet, r.Client, r.MAC, r.ClientID, r.Hostname, r.State, r.Expires, r.Sum)
		}
		values := strings.Repeat(", "+leaseValues, len(some))[len(", "):]
		if _, err := tx.ExecContext(steady, insertLeases+values, args...); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// Leases returns all leases, in order of address.
func (s *Store) Leases(ctx context.Context) ([]fleet.Lease, error) {
	var rows []leaseRow
	if err := s.read.WithContext(ctx).Order("addr").Find(&rows).Error; err != nil {
		return nil, s.fault("read leases", err)
	}
	leases := make([]fleet.Lease, 0, len(rows))
	for _, r := range rows {
		if r.Sum != r.checksum() {
			return nil, s.damaged(fmt.Errorf("lease %s: the checksum does not fit", fromAddr(r.Addr)))
		}
		leases = append(leases, r.lease())
	}
	return leases, nil
}

func toLeaseRow(l fleet.Lease) (leaseRow, error) {
	if !l.Addr.Is4() {
		return leaseRow{}, fleet.Invalidf("lease "+l.Addr.String(), "", errors.New("not an IPv4 address"))
	}
	client := "id:" + l.ClientID // RFC 2131 §4.2: who sends an identifier is known by it alone
	if l.ClientID == "" {
		client = "mac:" + string(l.MAC)
	}
	a := l.Addr.As4()
	row := leaseRow{
		Addr: int64(binary.BigEndian.Uint32(a[:])), Subnet: l.Subnet, Client: client, MAC: string(l.MAC),
		ClientID: l.ClientID, Hostname: l.Hostname, State: string(l.State), Expires: toNano(l.Expires),
	}
	row.Sum = row.checksum()
	return row, nil
}

func (r leaseRow) lease() fleet.Lease {
	return fleet.Lease{
		Addr: fromAddr(r.Addr), Subnet: r.Subnet, MAC: fleet.MAC(r.MAC), ClientID: r.ClientID,
		Hostname: r.Hostname, State: fleet.LeaseState(r.State), Expires: fromNano(r.Expires),
	}
}

func fromAddr(n int64) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(n))
	return netip.AddrFrom4(a)
}

func (r leaseRow) checksum() int64 {
	b := make([]byte, 0, 256)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Addr))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Expires))
	for _, s := range []string{r.Subnet, r.Client, r.MAC, r.ClientID, r.Hostname, r.State} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return int64(crc32.Checksum(b, castagnoli))
}
