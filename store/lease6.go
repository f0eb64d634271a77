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
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	insertLeases6 = "INSERT OR REPLACE INTO leases6 (addr, subnet, duid, iaid, mac, side, state, expires, sum) VALUES "
	leaseValues6  = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

// leasesPerInsert is how many leases go into one statement. More gain nothing:
// the driver looks up each argument among all of them.
const leasesPerInsert = 8

type leaseRow6 struct {
	Addr    []byte `gorm:"primaryKey"`
	Subnet  string
	DUID    string `gorm:"column:duid"`
	IAID    int64  `gorm:"column:iaid"`
	MAC     string
	Side    bool
	State   string
	Expires int64
	Sum     int64
}

func (leaseRow6) TableName() string { return "leases6" }

// SaveLeases6 stores IPv6 leases in one transaction; when it returns nil they
// are all on the disk. A lease takes the place of the one that its address
// had, and a bound one of the one that its DUID and IAID had on the subnet.
func (s *Store) SaveLeases6(ctx context.Context, leases []fleet.Lease6) error {
	rows := make([]leaseRow6, 0, len(leases))
	for _, l := range leases {
		if !l.Addr.Is6() || l.Addr.Is4In6() || l.Addr.Zone() != "" {
			return fleet.Invalidf("lease "+l.Addr.String(), "", errors.New("not an IPv6 address"))
		}
		rows = append(rows, toLeaseRow6(l))
	}
	db, err := s.write.DB()
	if err != nil {
		return s.fault("save leases", err)
	}
	return s.fault("save leases", insertAll6(ctx, db, rows))
}

func insertAll6(ctx context.Context, db *sql.DB, rows []leaseRow6) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	steady := context.WithoutCancel(ctx)
	for some := range slices.Chunk(rows, leasesPerInsert) {
		args := make([]any, 0, len(some)*strings.Count(leaseValues6, "?"))
		for _, r := range some {
			args = append(args, r.Addr, r.Subnet, r.DUID, r.IAID, r.MAC, r.Side, r.State, r.Expires, r.Sum)
		}
		values := strings.Repeat(", "+leaseValues6, len(some))[len(", "):]
		if _, err := tx.ExecContext(steady, insertLeases6+values, args...); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// Leases6 returns all IPv6 leases, in order of address.
func (s *Store) Leases6(ctx context.Context) ([]fleet.Lease6, error) {
	var rows []leaseRow6
	if err := s.read.WithContext(ctx).Order("addr").Find(&rows).Error; err != nil {
		return nil, s.fault("read leases", err)
	}
	leases := make([]fleet.Lease6, 0, len(rows))
	for _, r := range rows {
		addr, ok := netip.AddrFromSlice(r.Addr)
		if !ok || r.Sum != r.checksum() {
			return nil, s.damaged(fmt.Errorf("lease %x: the checksum does not fit", r.Addr))
		}
		leases = append(leases, fleet.Lease6{
			Addr: addr, Subnet: r.Subnet, DUID: r.DUID, IAID: uint32(r.IAID), MAC: fleet.MAC(r.MAC), Side: r.Side,
			State: fleet.LeaseState(r.State), Expires: fromNano(r.Expires),
		})
	}
	return leases, nil
}

// ForgetLeases6 deletes the IPv6 leases that ended before a time. There are so
// many addresses that few are ever given to a second client, which would
// overwrite them.
func (s *Store) ForgetLeases6(ctx context.Context, before time.Time) error {
	return s.fault("forget leases", s.write.WithContext(ctx).Where("expires < ?", toNano(before)).Delete(&leaseRow6{}).Error)
}

func toLeaseRow6(l fleet.Lease6) leaseRow6 {
	row := leaseRow6{
		Addr: l.Addr.AsSlice(), Subnet: l.Subnet, DUID: l.DUID, IAID: int64(l.IAID), MAC: string(l.MAC), Side: l.Side,
		State: string(l.State), Expires: toNano(l.Expires),
	}
	row.Sum = row.checksum()
	return row
}

func (r leaseRow6) checksum() int64 {
	b := make([]byte, 0, 256)
	b = append(b, r.Addr...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Expires))
	b = binary.BigEndian.AppendUint32(b, uint32(r.IAID))
	if r.Side {
		b = append(b, 1)
	}
	for _, s := range []string{r.Subnet, r.DUID, r.MAC, r.State} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return int64(crc32.Checksum(b, castagnoli))
}
