package redfish

import (
	"fmt"
	"net/http"
	"slices"
)

// partResources are what a system is made of.
func (s *Service) partResources() map[string]resource {
	const one = systems + "/{system}"
	return map[string]resource{
		one + "/Processors":                         {get: s.collect("Processors", "ProcessorCollection", processorNames)},
		one + "/Processors/{part}":                  {get: s.part(processor)},
		one + "/Memory":                             {get: s.collect("Memory", "MemoryCollection", func(Facts) []string { return []string{"DIMM.A1"} })},
		one + "/Memory/{part}":                      {get: s.part(module)},
		one + "/EthernetInterfaces":                 {get: s.collect("EthernetInterfaces", "EthernetInterfaceCollection", nicNames)},
		one + "/EthernetInterfaces/{part}":          {get: s.part(nic)},
		one + "/Storage":                            {get: s.collect("Storage", "StorageCollection", func(Facts) []string { return []string{"Controller.1"} })},
		one + "/Storage/{part}":                     {get: s.part(storage)},
		one + "/Storage/Controller.1/Drives/{part}": {get: s.part(drive)},
		one + "/Storage/Controller.1/Volumes":       {get: s.collect("Storage/Controller.1/Volumes", "VolumeCollection", func(Facts) []string { return nil })},
	}
}

func (s *Service) collect(name, kind string, ids func(Facts) []string) func(*http.Request) (object, error) {
	return func(r *http.Request) (object, error) {
		x, err := s.system(r)
		if err != nil {
			return nil, err
		}
		path := x.path() + "/" + name
		var paths []string
		for _, id := range ids(x.facts()) {
			paths = append(paths, path+"/"+id)
		}
		return list(path, kind, name, paths), nil
	}
}

// part shows one; show returns nil when there is none with that id.
func (s *Service) part(show func(f Facts, path, id string) object) func(*http.Request) (object, error) {
	return func(r *http.Request) (object, error) {
		x, err := s.system(r)
		if err != nil {
			return nil, err
		}
		if o := show(x.facts(), x.path(), r.PathValue("part")); o != nil {
			return o, nil
		}
		return nil, notFound(r.URL.Path)
	}
}

func processorNames(f Facts) []string {
	var ids []string
	for _, p := range f.Processors {
		ids = append(ids, p.ID)
	}
	return ids
}

func processor(f Facts, path, id string) object {
	i := slices.IndexFunc(f.Processors, func(p Processor) bool { return p.ID == id })
	if i < 0 {
		return nil
	}
	p := f.Processors[i]
	status := fine()
	if p.Absent {
		status = object{"State": "Absent"}
	}
	o := object{
		"Socket": fmt.Sprintf("CPU%d", i+1), "Manufacturer": f.Vendor,
		"Model": f.CPU, "MaxSpeedMHz": 3200, "TotalCores": f.CPUs, "TotalThreads": f.CPUs, "Status": status,
	}
	for name, said := range map[string]string{"ProcessorType": p.Type, "ProcessorArchitecture": p.Family, "InstructionSet": p.Set} {
		if said != "" {
			o[name] = said
		}
	}
	return item(path+"/Processors/"+id, "Processor.v1_18_0.Processor", id, fmt.Sprintf("CPU %d", i+1), o)
}

func module(f Facts, path, id string) object {
	if id != "DIMM.A1" {
		return nil
	}
	return item(path+"/Memory/"+id, "Memory.v1_18_0.Memory", id, "DIMM A1", object{
		"MemoryType": "DRAM", "MemoryDeviceType": "DDR5", "CapacityMiB": f.MemoryMiB, "OperatingSpeedMhz": 4800, "Manufacturer": f.Vendor,
		"SerialNumber": "M" + f.Serial, "PartNumber": "M77-16G", "DeviceLocator": "A1", "ErrorCorrection": "MultiBitECC", "Status": fine(),
	})
}

func nicNames(f Facts) []string {
	var ids []string
	for _, n := range f.NICs {
		ids = append(ids, n.ID)
	}
	return ids
}

func nic(f Facts, path, id string) object {
	i := slices.IndexFunc(f.NICs, func(n NIC) bool { return n.ID == id })
	if i < 0 {
		return nil
	}
	n := f.NICs[i]
	link := map[bool]string{true: "LinkUp", false: "LinkDown"}[n.Link]
	return item(path+"/EthernetInterfaces/"+id, "EthernetInterface.v1_12_0.EthernetInterface", id, "Network card "+id, object{
		"MACAddress": n.MAC, "PermanentMACAddress": n.MAC, "SpeedMbps": n.Mbit, "LinkStatus": link, "InterfaceEnabled": true,
		"UefiDevicePath": fmt.Sprintf("PciRoot(0x0)/Pci(0x%x,0x0)", i+3), "Status": fine(),
	})
}

func storage(f Facts, path, id string) object {
	if id != "Controller.1" {
		return nil
	}
	p := path + "/Storage/" + id
	var drives []string
	for _, d := range f.Disks {
		drives = append(drives, p+"/Drives/"+d.ID)
	}
	return item(p, "Storage.v1_16_0.Storage", id, "Storage Controller", object{
		"Drives": links(drives), "Drives@odata.count": len(drives), "Volumes": link(p + "/Volumes"), "Status": fine(),
		"StorageControllers": []any{object{
			"@odata.id": p + "#/StorageControllers/0", "MemberId": "0", "Name": "Controller", "Manufacturer": f.Vendor,
			"Model": "Contoso HBA", "FirmwareVersion": "1.0", "Status": fine(),
		}},
	})
}

func drive(f Facts, path, id string) object {
	i := slices.IndexFunc(f.Disks, func(d Disk) bool { return d.ID == id })
	if i < 0 {
		return nil
	}
	d := f.Disks[i]
	return item(path+"/Storage/Controller.1/Drives/"+id, "Drive.v1_19_0.Drive", id, "Drive "+id, object{
		"Manufacturer": f.Vendor, "Model": d.Model, "SerialNumber": d.Serial, "Revision": d.Revision, "Protocol": d.Protocol,
		"MediaType": d.Media, "CapacityBytes": d.Bytes, "FailurePredicted": false, "PredictedMediaLifeLeftPercent": 98, "Status": fine(),
	})
}
