package store

import (
	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"
)

// relays is the table of the edges that speak for machines of other networks.
func relays() *gormigrate.Migration {
	type relay struct {
		Name string `gorm:"primaryKey"`
		Doc  []byte `gorm:"not null"`
		Sum  int64  `gorm:"not null"`
	}
	return &gormigrate.Migration{
		ID:       "0003-relays",
		Migrate:  func(tx *gorm.DB) error { return tx.Migrator().CreateTable(&relay{}) },
		Rollback: func(tx *gorm.DB) error { return tx.Migrator().DropTable(&relay{}) },
	}
}
