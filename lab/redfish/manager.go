package redfish

import (
	"maps"
	"net/http"
	"time"
)

const managers = "/redfish/v1/Managers"

func (s *Service) managerPath() string { return managers + "/" + s.o.Manager }

func (s *Service) managerResources() map[string]resource {
	one := s.managerPath()
	return map[string]resource{
		managers: {get: func(*http.Request) (object, error) {
			return list(managers, "ManagerCollection", "Manager Collection", []string{one}), nil
		}},
		one:                            {get: s.showManager},
		one + "/Actions/Manager.Reset": {post: s.resetManager},
		one + "/EthernetInterfaces": {get: func(*http.Request) (object, error) {
			return list(one+"/EthernetInterfaces", "EthernetInterfaceCollection", "Ethernet Interfaces", []string{one + "/EthernetInterfaces/eth0"}), nil
		}},
		one + "/EthernetInterfaces/eth0": {get: s.managerNIC},
		one + "/NetworkProtocol":         {get: s.networkProtocol, patch: s.changeProtocol},
	}
}

func (s *Service) showManager(*http.Request) (object, error) {
	p := s.managerPath()
	o := item(p, "Manager.v1_19_0.Manager", s.o.Manager, "Manager", object{
		"ManagerType": "BMC", "Manufacturer": s.o.Vendor, "Model": s.o.Product, "FirmwareVersion": s.versionOf("BMC", s.o.Firmware),
		"UUID": s.systems[0].Facts.UUID, "DateTime": time.Now().UTC().Format(time.RFC3339), "DateTimeLocalOffset": "+00:00",
		"PowerState": "On", "Status": fine(), "EthernetInterfaces": link(p + "/EthernetInterfaces"),
		"NetworkProtocol": link(p + "/NetworkProtocol"), "VirtualMedia": link(p + "/VirtualMedia"),
		"SerialConsole":    object{"ServiceEnabled": true, "MaxConcurrentSessions": 1, "ConnectTypesSupported": []string{"IPMI"}},
		"GraphicalConsole": object{"ServiceEnabled": false, "MaxConcurrentSessions": 0, "ConnectTypesSupported": []string{}},
		"CommandShell":     object{"ServiceEnabled": false, "MaxConcurrentSessions": 0, "ConnectTypesSupported": []string{}},
		"Links":            object{"ManagerForServers": links(s.systemPaths())},
		"Actions": object{"#Manager.Reset": object{
			"target": p + "/Actions/Manager.Reset", "ResetType@Redfish.AllowableValues": []string{"GracefulRestart", "ForceRestart"},
		}},
	})
	if !s.Faults().NoLogs {
		o["LogServices"] = link(p + "/LogServices")
	}
	return o, nil
}

// resetManager restarts the BMC: all sessions are lost.
func (s *Service) resetManager(w http.ResponseWriter, _ *http.Request, in object) error {
	if name := text(in, "ResetType"); name != "GracefulRestart" && name != "ForceRestart" {
		return refuse(http.StatusBadRequest, "ActionParameterNotSupported", "The parameter ResetType for the action Reset is not supported on the target resource: "+name)
	}
	w.WriteHeader(http.StatusNoContent)
	s.EndSessions()
	s.record("OK", "The BMC has started.")
	return nil
}

func (s *Service) managerNIC(r *http.Request) (object, error) {
	p := s.managerPath() + "/EthernetInterfaces/eth0"
	host := hostOf(r)
	return item(p, "EthernetInterface.v1_12_0.EthernetInterface", "eth0", "Manager Ethernet Interface", object{
		"MACAddress": managerMAC(host), "PermanentMACAddress": managerMAC(host), "InterfaceEnabled": true, "LinkStatus": "LinkUp", "SpeedMbps": 1000,
		"HostName": "bmc", "FQDN": "bmc", "DHCPv4": object{"DHCPEnabled": true}, "Status": fine(),
		"IPv4Addresses": []any{object{"Address": host, "SubnetMask": "255.255.255.0", "AddressOrigin": "DHCP", "Gateway": "0.0.0.0"}},
	}), nil
}

func (s *Service) networkProtocol(*http.Request) (object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := item(s.managerPath()+"/NetworkProtocol", "ManagerNetworkProtocol.v1_10_1.ManagerNetworkProtocol", "NetworkProtocol", "Manager Network Protocol", object{
		"HostName": "bmc", "HTTPS": object{"ProtocolEnabled": true, "Port": 443}, "HTTP": object{"ProtocolEnabled": false, "Port": 80},
		"IPMI": object{"ProtocolEnabled": true, "Port": 623}, "SSH": object{"ProtocolEnabled": false, "Port": 22},
		"NTP": object{"ProtocolEnabled": false, "NTPServers": []string{}}, "Status": fine(),
	})
	maps.Copy(o, s.protocol)
	return o, nil
}

func (s *Service) changeProtocol(r *http.Request, in object) error {
	now, err := s.networkProtocol(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, value := range in {
		before, known := now[name].(object)
		change, ok := value.(object)
		if !known || !ok {
			return refuse(http.StatusBadRequest, "PropertyUnknown", "The property "+name+" is not in the list of valid properties for the resource.")
		}
		after := maps.Clone(before)
		maps.Copy(after, change)
		s.protocol[name] = after
	}
	return nil
}
