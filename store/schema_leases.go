package store

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"

	"github.com/rackstage/provision/fleet"
)

// oldLease is the table of leases as [spine] made it.
type oldLease struct {
	Addr     int64  `gorm:"primaryKey;autoIncrement:false"`
	Subnet   string `gorm:"uniqueIndex:leases_client,priority:1,where:state = 'bound'"`
	Client   string `gorm:"uniqueIndex:leases_client,priority:2,where:state = 'bound'"`
	MAC      string
	ClientID string
	Hostname string
	State    string
	Expires  int64
	Sum      int64
}

func (oldLease) TableName() string { return "leases" }

// leaseJournals makes leases compact, a third of what they took, and knows a
// client by its hardware address, as the DHCP server does: the three programs
// that a machine boots with send three identifiers. It adds the table that says
// which journals hold leases that are not in the table yet.
func leaseJournals() *gormigrate.Migration {
	type lease struct {
		Addr     int64  `gorm:"primaryKey;autoIncrement:false"`
		Subnet   string `gorm:"uniqueIndex:leases_holder,priority:1,where:state = 1"`
		MAC      int64  `gorm:"uniqueIndex:leases_holder,priority:2,where:state = 1"`
		State    int64
		Expires  int64
		Hostname string
		ClientID string
		Sum      int64
	}
	type journal struct {
		Gen     int64 `gorm:"primaryKey;autoIncrement:false"`
		Batches int64 `gorm:"not null"` // it has at least so many
	}
	up := func(tx *gorm.DB) error {
		var old []oldLease
		// Two leases of one card become one: that which ends last.
		if err := tx.Order("expires, addr").Find(&old).Error; err != nil {
			return err
		}
		if err := errors.Join(tx.Migrator().DropTable("leases"), tx.Table("leases").Migrator().CreateTable(&lease{}), tx.Table("lease_journals").Migrator().CreateTable(&journal{})); err != nil {
			return err
		}
		for _, o := range old {
			l, err := o.lease()
			if err != nil {
				return err
			}
			r := recordOf(&l)
			sum, _ := r.sum(nil)
			if err := tx.Exec("INSERT OR REPLACE "+insertLease, r.addr, l.Subnet, r.mac, r.state, r.expires, l.Hostname, l.ClientID, sum).Error; err != nil {
				return err
			}
		}
		return nil
	}
	return &gormigrate.Migration{ID: "0004-lease-journals", Migrate: up, Rollback: takeLeasesBack}
}

// takeLeasesBack keeps what clients hold: an older program that does not know it
// would give it to others. Leases in journals are out of its reach.
func takeLeasesBack(tx *gorm.DB) error {
	var waiting int64
	if err := tx.Table("lease_journals").Where("batches <> ?", merged).Count(&waiting).Error; err != nil {
		return err
	}
	if waiting > 0 {
		return leasesLeft(tx, "0003-relays", "end provision with an orderly stop, which brings them in if they are few, or ", fmt.Errorf("%d journals have leases that are not in it yet", waiting))
	}
	rows, err := tx.Raw(selectLeases + " ORDER BY expires DESC, addr").Rows()
	if err != nil {
		return err
	}
	old, err := oldLeases(rows)
	if err = errors.Join(err, rows.Close()); err != nil {
		return err
	}
	if err := errors.Join(tx.Migrator().DropTable("leases", "lease_journals"), tx.Migrator().CreateTable(&oldLease{})); err != nil {
		return err
	}
	if len(old) == 0 {
		return nil
	}
	return tx.CreateInBatches(old, 256).Error
}

// oldLeases reads rows of [selectLeases]. A client was its identifier then: where
// two have the same, the second is its hardware address, and both keep what they
// hold.
func oldLeases(rows *sql.Rows) (old []oldLease, err error) {
	type client struct{ subnet, name string }
	seen := make(map[client]bool)
	var buf []byte
	for rows.Next() {
		var r record
		var mac, state, want int64
		if err := rows.Scan(&r.addr, &r.subnet, &mac, &state, &r.expires, &r.hostname, &r.clientID, &want); err != nil {
			return nil, err
		}
		r.mac, r.state = uint64(mac), byte(state) //nolint:gosec // as they were written
		var sum uint32
		if sum, buf = r.sum(buf); int64(sum) != want || stateOf(r.state) == "" {
			return nil, fmt.Errorf("lease %s: the checksum does not fit", addrOf(r.addr))
		}
		o := oldLeaseOf(r.lease(make(map[string]string)))
		if o.State == string(fleet.LeaseBound) {
			if seen[client{o.Subnet, o.Client}] {
				o.Client = "mac:" + o.MAC
				o.Sum = o.sum()
			}
			seen[client{o.Subnet, o.Client}] = true
		}
		old = append(old, o)
	}
	return old, rows.Err()
}

// leasesLeft says why a schema is not taken back: leases would be forgotten.
func leasesLeft(tx *gorm.DB, older, first string, why error) error {
	var path string
	if err := tx.Raw("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path).Error; err != nil {
		return err
	}
	return &fleet.Error{
		Kind: fleet.Conflict, Op: "take the schema back", On: path, Err: why,
		Hint: first + "go back to " + copyName(path, older) + ", which lacks the leases given since it was made",
	}
}

func oldLeaseOf(l fleet.Lease) oldLease {
	o := oldLease{
		Addr: int64(number(l.Addr)), Subnet: l.Subnet, Client: "mac:" + string(l.MAC), MAC: string(l.MAC), ClientID: l.ClientID,
		Hostname: l.Hostname, State: string(l.State), Expires: toNano(l.Expires),
	}
	if l.ClientID != "" {
		o.Client = "id:" + l.ClientID
	}
	o.Sum = o.sum()
	return o
}

func (o oldLease) lease() (fleet.Lease, error) {
	l := fleet.Lease{
		Addr: addrOf(uint32(o.Addr)), Subnet: o.Subnet, MAC: fleet.MAC(o.MAC), ClientID: o.ClientID,
		Hostname: o.Hostname, State: fleet.LeaseState(o.State), Expires: fromNano(o.Expires),
	}
	if o.sum() != o.Sum {
		return l, fmt.Errorf("lease %s: the checksum does not fit", l.Addr)
	}
	return l, checkLease(&l)
}

func (o oldLease) sum() int64 {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(o.Addr)), uint64(o.Expires)) //nolint:gosec // as it was
	for _, s := range []string{o.Subnet, o.Client, o.MAC, o.ClientID, o.Hostname, o.State} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return int64(crc32.Checksum(b, castagnoli))
}
