package main

import "github.com/rackstage/provision/fleet"

// A quirkFile is how machines of one model boot otherwise than usual.
type quirkFile struct {
	MAC        string `yaml:"mac"` // first bytes: 52:54:00
	Vendor     string `yaml:"vendor"`
	Product    string `yaml:"product"`
	Platform   string `yaml:"platform"`    // bios, uefi-x64, uefi-arm64, rpi; "" for all
	Loader     string `yaml:"loader"`      // file in the state folder's boot
	BlockSize  int    `yaml:"block_size"`  // largest TFTP block
	HTTP       string `yaml:"http"`        // always, never
	Rechain    bool   `yaml:"rechain"`     // an old iPXE in its ROM gets our loader
	NoAutoexec bool   `yaml:"no_autoexec"` // it does not get on with autoexec.ipxe
	Reason     string `yaml:"reason"`      // for people
}

func (f quirkFile) quirk() fleet.Quirk {
	return fleet.Quirk{
		MACPrefix: f.MAC, Vendor: f.Vendor, Product: f.Product, Platform: f.Platform,
		Loader: f.Loader, BlockSize: f.BlockSize, HTTP: fleet.HTTPUse(f.HTTP), NoAutoexec: f.NoAutoexec, Rechain: f.Rechain, Reason: f.Reason,
	}
}
