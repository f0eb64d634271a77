package store

import (
	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"
)

// lessons is the table of what boots have taught about models.
func lessons() *gormigrate.Migration {
	type lesson struct {
		Key string `gorm:"primaryKey"`
		Doc []byte `gorm:"not null"`
		Sum int64  `gorm:"not null"`
	}
	return &gormigrate.Migration{
		ID:       "0005-lessons",
		Migrate:  func(tx *gorm.DB) error { return tx.Migrator().CreateTable(&lesson{}) },
		Rollback: func(tx *gorm.DB) error { return tx.Migrator().DropTable(&lesson{}) },
	}
}
