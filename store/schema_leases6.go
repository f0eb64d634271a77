package store

import (
	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"
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
		ID:       "0002-leases6",
		Migrate:  func(tx *gorm.DB) error { return tx.Table("leases6").Migrator().CreateTable(&lease6{}) },
		Rollback: func(tx *gorm.DB) error { return tx.Migrator().DropTable("leases6") },
	}
}
