package store

import (
	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"
)

// spine is the first schema. The structs in it say what the tables looked
// like then and never change again.
func spine() *gormigrate.Migration {
	type site struct {
		ID  int64  `gorm:"primaryKey;autoIncrement:false"`
		Doc []byte `gorm:"not null"`
		Sum int64  `gorm:"not null"`
	}
	type node struct {
		ID       string `gorm:"primaryKey"`
		MAC      string `gorm:"not null;uniqueIndex:nodes_mac"`
		Name     string `gorm:"not null;uniqueIndex:nodes_name,where:name <> ''"`
		Pool     string `gorm:"not null;index:nodes_pool"`
		State    string `gorm:"not null"`
		Revision int64  `gorm:"not null"`
		Doc      []byte `gorm:"not null"`
		Sum      int64  `gorm:"not null"`
	}
	type run struct {
		ID      string `gorm:"primaryKey"`
		Pool    string `gorm:"not null;index:runs_pool,priority:1"`
		Started int64  `gorm:"not null;index:runs_pool,priority:2"`
		Over    bool   `gorm:"not null;index:runs_open,where:NOT over"`
		Doc     []byte `gorm:"not null"`
		Sum     int64  `gorm:"not null"`
	}
	type runNode struct {
		Run   string `gorm:"primaryKey"`
		Place int64  `gorm:"primaryKey;autoIncrement:false"`
		Doc   []byte `gorm:"not null"`
		Sum   int64  `gorm:"not null"`
	}
	type ticket struct {
		Hash    []byte `gorm:"primaryKey"`
		Expires int64  `gorm:"not null;index:tickets_expires"`
		Doc     []byte `gorm:"not null"`
		Sum     int64  `gorm:"not null"`
	}
	type event struct {
		Seq   int64  `gorm:"primaryKey;autoIncrement:false"`
		At    int64  `gorm:"not null"`
		Type  string `gorm:"not null"`
		Node  string `gorm:"not null"`
		Pool  string `gorm:"not null"`
		Run   string `gorm:"not null"`
		Actor string `gorm:"not null"`
		Text  string `gorm:"not null"`
	}
	// A column that must not be NULL makes SQLite journal each INSERT OR REPLACE
	// by itself, in case it has to be taken back half-way. Leases are written
	// three times as fast without.
	type lease struct {
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
	type user struct {
		Name     string `gorm:"primaryKey"`
		Role     string `gorm:"not null"`
		Password string `gorm:"not null"`
		Created  int64  `gorm:"not null"`
	}
	type login struct {
		Hash    []byte `gorm:"primaryKey"`
		User    string `gorm:"not null;index:logins_user"`
		Kind    string `gorm:"not null"`
		Created int64  `gorm:"not null"`
		Expires int64  `gorm:"not null;index:logins_expires"`
	}
	tables := []any{&site{}, &node{}, &run{}, &runNode{}, &ticket{}, &event{}, &lease{}, &user{}, &login{}}
	return &gormigrate.Migration{
		ID:       "0001-spine",
		Migrate:  func(tx *gorm.DB) error { return tx.Migrator().CreateTable(tables...) },
		Rollback: func(tx *gorm.DB) error { return tx.Migrator().DropTable(tables...) },
	}
}
