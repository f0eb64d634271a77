package store

import (
	"fmt"
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"

	"github.com/rackstage/provision/fleet"
)

// leases6 adds the table of IPv6 leases. As in the table of IPv4 leases, no
// column is NOT NULL: see [spine].
func leases6() *gormigrate.Migration {
	type lease6 struct {
		Addr    []byte `gorm:"primaryKey"`
		Subnet  string `gorm:"uniqueIndex:leases6_client,priority:1,where:state = 'bound'"`
		DUID    string `gorm:"column:duid;uniqueIndex:leases6_client,priority:2,where:state = 'bound'"`
		IAID    int64  `gorm:"column:iaid;uniqueIndex:leases6_client,priority:3,where:state = 'bound'"`
		MAC     string
		Side    bool
		State   string
		Expires int64 `gorm:"index:leases6_expires"`
		Sum     int64
	}
	return &gormigrate.Migration{
		ID:      "0002-leases6",
		Migrate: func(tx *gorm.DB) error { return tx.Table("leases6").Migrator().CreateTable(&lease6{}) },
		Rollback: func(tx *gorm.DB) error {
			if err := refuseHeld6(tx); err != nil {
				return err
			}
			return tx.Migrator().DropTable("leases6")
		},
	}
}

// refuseHeld6 keeps leases that hold: an older program has no place for them, and
// the newer one, when it comes back, would give their addresses to others.
func refuseHeld6(tx *gorm.DB) error {
	var held int64
	if err := tx.Table("leases6").Where("state = ? AND expires > ?", string(fleet.LeaseBound), toNano(time.Now())).Count(&held).Error; err != nil {
		return err
	}
	if held == 0 {
		return nil
	}
	return leasesLeft(tx, "0001-spine", "", fmt.Errorf("%d leases of IPv6 hold, and it has no place for them", held))
}
