package store

import (
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
	down := func(tx *gorm.DB) error { // nobody has to keep leases that an older program writes anew
		return errors.Join(tx.Migrator().DropTable("leases", "lease_journals"), tx.Migrator().CreateTable(&oldLease{}))
	}
	return &gormigrate.Migration{ID: "0004-lease-journals", Migrate: up, Rollback: down}
}

func (o oldLease) lease() (fleet.Lease, error) {
	l := fleet.Lease{
		Addr: addrOf(uint32(o.Addr)), Subnet: o.Subnet, MAC: fleet.MAC(o.MAC), ClientID: o.ClientID,
		Hostname: o.Hostname, State: fleet.LeaseState(o.State), Expires: fromNano(o.Expires),
	}
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(o.Addr)), uint64(o.Expires))
	for _, s := range []string{o.Subnet, o.Client, o.MAC, o.ClientID, o.Hostname, o.State} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	if int64(crc32.Checksum(b, castagnoli)) != o.Sum {
		return l, fmt.Errorf("lease %s: the checksum does not fit", l.Addr)
	}
	return l, checkLease(&l)
}
