package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"time"

	"github.com/rackstage/provision/fleet"
)

// insertLease6 stores a lease, unless another client holds its address: until it
// says that its lease is over, or that ends. It also takes the place of the one
// that the same client had on this subnet.
const insertLease6 = `INSERT OR REPLACE INTO leases6 (addr, subnet, duid, iaid, mac, side, state, expires, sum)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE NOT EXISTS (
	SELECT 1 FROM leases6 WHERE addr = ?1 AND state = 'bound' AND expires > ?10 AND (duid <> ?3 OR iaid <> ?4))`

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
// had, and a bound one of the one that its DUID and IAID had on the subnet. It
// takes no address away from another client, whose lease has to end first: then
// nothing is stored, and there is a [fleet.HeldError] in the error.
func (s *Store) SaveLeases6(ctx context.Context, leases []fleet.Lease6) error {
	for _, l := range leases {
		if !l.Addr.Is6() || l.Addr.Is4In6() || l.Addr.Zone() != "" {
			return fleet.Invalidf("lease "+l.Addr.String(), "", errors.New("not an IPv6 address"))
		}
	}
	return s.fault("save leases", s.inTransaction(ctx, func(tx *sql.Tx) error { return s.insertAll6(context.WithoutCancel(ctx), tx, leases) }))
}

func (s *Store) insertAll6(ctx context.Context, tx *sql.Tx, leases []fleet.Lease6) error {
	insert, err := tx.PrepareContext(ctx, insertLease6)
	if err != nil {
		return err
	}
	defer insert.Close()
	now := toNano(s.leases.now())
	for _, l := range leases {
		r := toLeaseRow6(l)
		res, err := insert.ExecContext(ctx, r.Addr, r.Subnet, r.DUID, r.IAID, r.MAC, r.Side, r.State, r.Expires, r.Sum, now)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, held6(ctx, tx, l))
		}
	}
	return nil
}

// held6 is the error for a lease of an address that another client holds.
func held6(ctx context.Context, tx *sql.Tx, refused fleet.Lease6) error {
	stands := fleet.Lease6{Addr: refused.Addr, State: fleet.LeaseBound}
	var expires int64
	row := tx.QueryRowContext(ctx, "SELECT subnet, duid, iaid, mac, side, expires FROM leases6 WHERE addr = ?", refused.Addr.AsSlice())
	if err := row.Scan(&stands.Subnet, &stands.DUID, &stands.IAID, &stands.MAC, &stands.Side, &expires); err != nil {
		return err
	}
	stands.Expires = fromNano(expires)
	return &fleet.Error{
		Kind: fleet.Conflict, Code: fleet.CodeLeaseTwice, Op: "lease", On: refused.Addr.String(),
		Err: &fleet.HeldError{Stands: stands, Refused: refused}, Hint: "see who has it: provision leases list",
	}
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
