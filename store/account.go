package store

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rackstage/provision/fleet"
)

type userRow struct {
	Name     string `gorm:"primaryKey"`
	Role     string
	Password string
	Created  int64
}

func (userRow) TableName() string { return "users" }

type loginRow struct {
	Hash    []byte `gorm:"primaryKey"`
	User    string
	Kind    string
	Created int64
	Expires int64
}

func (loginRow) TableName() string { return "logins" }

// User returns the account with this name, or a NotFound error.
func (s *Store) User(ctx context.Context, name string) (fleet.User, error) {
	var row userRow
	if err := s.read.WithContext(ctx).Where("name = ?", name).Take(&row).Error; err != nil {
		return fleet.User{}, s.missing("read user", err)
	}
	return row.user(), nil
}

// Users returns all accounts, in order of name.
func (s *Store) Users(ctx context.Context) ([]fleet.User, error) {
	var rows []userRow
	if err := s.read.WithContext(ctx).Order("name").Find(&rows).Error; err != nil {
		return nil, s.fault("read users", err)
	}
	users := make([]fleet.User, 0, len(rows))
	for _, r := range rows {
		users = append(users, r.user())
	}
	return users, nil
}

func (r userRow) user() fleet.User {
	return fleet.User{Name: r.Name, Role: fleet.AccountRole(r.Role), Password: r.Password, Created: fromNano(r.Created)}
}

// SaveUser stores an account. It ends the logins of that account: whoever
// held one held it under another password, or another role.
func (s *Store) SaveUser(ctx context.Context, u fleet.User) error {
	row := userRow{Name: u.Name, Role: string(u.Role), Password: u.Password, Created: toNano(u.Created)}
	return s.fault("save user", s.write.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error; err != nil {
			return err
		}
		return endLogins(tx, u.Name)
	}))
}

// DeleteUser removes an account and ends its logins.
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	return s.fault("delete user", s.write.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Where("name = ?", name).Delete(&userRow{}).Error; err != nil {
			return err
		}
		return endLogins(tx, name)
	}))
}

func endLogins(tx *gorm.DB, user string) error {
	return tx.Where(&loginRow{User: user}).Delete(&loginRow{}).Error
}

// Login returns the login with this hash, or a NotFound error. It may have
// expired: the store does not judge.
func (s *Store) Login(ctx context.Context, hash [32]byte) (fleet.Login, error) {
	var row loginRow
	if err := s.read.WithContext(ctx).Where("hash = ?", hash[:]).Take(&row).Error; err != nil {
		return fleet.Login{}, s.missing("read login", err)
	}
	if len(row.Hash) != len(hash) {
		return fleet.Login{}, s.damaged(fmt.Errorf("a login has a hash of %d bytes", len(row.Hash)))
	}
	return fleet.Login{
		Hash: [32]byte(row.Hash), User: row.User, Kind: fleet.LoginKind(row.Kind),
		Created: fromNano(row.Created), Expires: fromNano(row.Expires),
	}, nil
}

// SaveLogin stores a new login, and drops those that had expired when it was
// created.
func (s *Store) SaveLogin(ctx context.Context, l fleet.Login) error {
	row := loginRow{Hash: l.Hash[:], User: l.User, Kind: string(l.Kind), Created: toNano(l.Created), Expires: toNano(l.Expires)}
	return s.fault("save login", s.write.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Where("expires < ?", row.Created).Delete(&loginRow{}).Error; err != nil {
			return err
		}
		return tx.Create(&row).Error
	}))
}

// DeleteLogin ends a login. There need not be one.
func (s *Store) DeleteLogin(ctx context.Context, hash [32]byte) error {
	return s.fault("delete login", s.write.WithContext(ctx).Where("hash = ?", hash[:]).Delete(&loginRow{}).Error)
}

func (s *Store) missing(op string, err error) error {
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return &fleet.Error{Kind: fleet.NotFound, Op: op, Err: errors.New("there is none")}
	}
	return s.fault(op, err)
}
