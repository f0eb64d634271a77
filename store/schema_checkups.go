package store

import (
	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"
)

// checkups is the table of what BMCs say about their machines.
func checkups() *gormigrate.Migration {
	type checkup struct {
		Node string `gorm:"primaryKey"`
		Doc  []byte `gorm:"not null"`
		Sum  int64  `gorm:"not null"`
	}
	return &gormigrate.Migration{
		ID:       "0006-checkups",
		Migrate:  func(tx *gorm.DB) error { return tx.Migrator().CreateTable(&checkup{}) },
		Rollback: func(tx *gorm.DB) error { return tx.Migrator().DropTable(&checkup{}) },
	}
}
