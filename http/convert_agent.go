package http

import (
	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func toInventory(in api.Inventory) fleet.Inventory {
	inv := fleet.Inventory{
		Vendor: in.Vendor, Product: in.Product, Serial: in.Serial, AssetTag: in.AssetTag,
		Firmware: in.Firmware, BIOS: in.BIOS, Secure: in.Secure,
		CPU:       fleet.CPU(in.CPU),
		MemoryMiB: in.MemoryMiB, TPM: in.TPM, Arch: in.Arch,
		BMC: fleet.InventoryBMC{Present: in.BMC.Present, Address: in.BMC.Address, MAC: fleet.MAC(in.BMC.MAC)},
	}
	for _, d := range in.Disks {
		inv.Disks = append(inv.Disks, fleet.Disk(d))
	}
	for _, n := range in.NICs {
		inv.NICs = append(inv.NICs, fleet.NIC{Name: n.Name, MAC: fleet.MAC(n.MAC), Driver: n.Driver, Up: n.Up, Speed: n.Speed, LLDP: fleet.LLDP(n.LLDP)})
	}
	return inv
}

func fromInventory(in fleet.Inventory) api.Inventory {
	inv := api.Inventory{
		Vendor: in.Vendor, Product: in.Product, Serial: in.Serial, AssetTag: in.AssetTag,
		Firmware: in.Firmware, BIOS: in.BIOS, Secure: in.Secure,
		CPU:       api.CPU(in.CPU),
		MemoryMiB: in.MemoryMiB, TPM: in.TPM, Arch: in.Arch,
		BMC:   api.InventoryBMC{Present: in.BMC.Present, Address: in.BMC.Address, MAC: string(in.BMC.MAC)},
		Disks: make([]api.Disk, 0, len(in.Disks)),
		NICs:  make([]api.NIC, 0, len(in.NICs)),
	}
	for _, d := range in.Disks {
		inv.Disks = append(inv.Disks, api.Disk(d))
	}
	for _, n := range in.NICs {
		inv.NICs = append(inv.NICs, api.NIC{Name: n.Name, MAC: string(n.MAC), Driver: n.Driver, Up: n.Up, Speed: n.Speed, LLDP: api.LLDP(n.LLDP)})
	}
	return inv
}

// toReport reads an agent's report; its text is hostile and is cleaned here.
func toReport(in *api.StepReport) *fleet.StepReport {
	if in == nil {
		return nil
	}
	out := &fleet.StepReport{
		StepID: fleet.CleanText(in.StepID), State: fleet.StepState(in.State), Progress: min(100, max(0, in.Progress)),
		Failure: fleet.Failure{Code: fleet.Code(fleet.CleanText(in.Code)), Text: fleet.CleanText(in.Text)},
	}
	if in.Docker != nil {
		out.Docker = &fleet.DockerResponse{Status: in.Docker.Status, Body: in.Docker.Body}
	}
	if in.Joined != nil {
		out.Joined = &fleet.Joined{ClusterID: fleet.CleanText(in.Joined.ClusterID), NodeID: fleet.CleanText(in.Joined.NodeID)}
	}
	if b := in.BMC; b != nil {
		out.BMC = &fleet.BMCReport{
			Slot: b.Slot, Channel: b.Channel, Address: fleet.CleanText(b.Address), Source: fleet.CleanText(b.Source), MAC: fleet.MAC(fleet.CleanText(b.MAC)),
			Manufacturer: b.Manufacturer, Product: b.Product, Firmware: fleet.CleanText(b.Firmware), Users: b.Users,
		}
	}
	return out
}

// fromStep writes a step for an agent. To wait is not a step: the agent gets
// none and asks again.
func fromStep(in *fleet.Step) *api.Step {
	if in == nil || in.Kind == fleet.StepWait {
		return nil
	}
	out := &api.Step{ID: in.ID, Kind: string(in.Kind)}
	if in.Disk != nil {
		out.Disk = &api.DiskOrder{ID: in.Disk.ID, Serial: in.Disk.Serial, Bytes: in.Disk.Bytes, MinBytes: in.Disk.MinBytes}
	}
	if in.Write != nil {
		out.Write = &api.WriteOrder{DiskID: in.Write.DiskID, Image: string(in.Write.Image), Digest: in.Write.Digest}
	}
	if in.Seed != nil {
		out.Seed = &api.SeedOrder{DiskID: in.Seed.DiskID, Files: make([]api.SeedFile, 0, len(in.Seed.Files))}
		for _, f := range in.Seed.Files {
			out.Seed.Files = append(out.Seed.Files, api.SeedFile(f))
		}
	}
	if in.Docker != nil {
		out.Docker = &api.DockerRequest{Method: in.Docker.Method, Path: in.Docker.Path, Body: in.Docker.Body}
	}
	if in.Join != nil {
		out.Join = &api.JoinTicket{Ticket: in.Join.Secret}
	}
	if in.BMC != nil {
		out.BMC = &api.BMCOrder{Username: in.BMC.Username, Password: string(in.BMC.Password)}
	}
	return out
}
