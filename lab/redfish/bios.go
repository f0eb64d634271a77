package redfish

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// registryID names the description of the attributes.
const registryID = "BiosAttributeRegistry.1.0"

// attributes are what a BIOS has, with the values they may have; the first is
// the default. A list without values is a number, from 0 to 100.
var attributes = map[string][]string{
	"BootMode":           {"Uefi", "Bios"},
	"ProcVirtualization": {"Enabled", "Disabled"},
	"SriovGlobalEnable":  {"Disabled", "Enabled"},
	"LogicalProc":        {"Enabled", "Disabled"},
	"SysProfile":         {"PerfPerWatt", "Performance", "Custom"},
	"AcPwrRcvry":         {"Last", "On", "Off"},
	"PxeDev1EnDis":       {"Enabled", "Disabled"},
	"HttpDev1EnDis":      {"Disabled", "Enabled"},
	"SerialComm":         {"OnConRedir", "Off"},
	"FanOffset":          nil,
}

func defaultBIOS() map[string]any {
	values := map[string]any{}
	for name, allowed := range attributes {
		values[name] = 0.0
		if allowed != nil {
			values[name] = allowed[0]
		}
	}
	return values
}

func (s *Service) biosResources() map[string]resource {
	const one = systems + "/{system}/Bios"
	return map[string]resource{
		one:                                    {get: s.showBIOS},
		one + "/Settings":                      {get: s.showSettings, patch: s.changeBIOS},
		one + "/Actions/Bios.ResetBios":        {post: s.resetBIOS},
		"/redfish/v1/Registries":               {get: s.registries},
		"/redfish/v1/Registries/" + registryID: {get: s.registry},
		"/redfish/v1/Registries/" + registryID + "/" + registryID: {get: s.registryFile},
	}
}

func (s *Service) showBIOS(r *http.Request) (object, error) {
	x, err := s.system(r)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.path() + "/Bios"
	return item(p, "Bios.v1_2_0.Bios", "Bios", "BIOS Configuration", object{
		"AttributeRegistry": registryID, "Attributes": maps.Clone(x.bios),
		"@Redfish.Settings": object{
			"@odata.type": "#Settings.v1_3_5.Settings", "SettingsObject": link(p + "/Settings"), "SupportedApplyTimes": []string{"OnReset"},
		},
		"Actions": object{"#Bios.ResetBios": object{"target": p + "/Actions/Bios.ResetBios"}},
	}), nil
}

func (s *Service) showSettings(r *http.Request) (object, error) {
	x, err := s.system(r)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return item(x.path()+"/Bios/Settings", "Bios.v1_2_0.Bios", "Settings", "BIOS Configuration Pending Settings", object{
		"AttributeRegistry": registryID, "Attributes": maps.Clone(x.pending),
	}), nil
}

func (s *Service) changeBIOS(r *http.Request, in object) error {
	x, err := s.system(r)
	if err != nil {
		return err
	}
	given, ok := in["Attributes"].(object)
	if !ok {
		return refuse(http.StatusBadRequest, "PropertyMissing", "The property Attributes is a required property and must be included in the request.")
	}
	for name, value := range given {
		if err := fits(name, value); err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.Copy(x.pending, given)
	return nil
}

func fits(name string, value any) error {
	allowed, known := attributes[name]
	if !known {
		return refuse(http.StatusBadRequest, "PropertyUnknown", "The property "+name+" is not in the list of valid properties for the resource.")
	}
	n, number := value.(float64)
	word, _ := value.(string)
	if allowed == nil && number && n >= 0 && n <= 100 || slices.Contains(allowed, word) {
		return nil
	}
	return refuse(http.StatusBadRequest, "PropertyValueNotInList", fmt.Sprintf("The value %v for the property %s is not in the list of acceptable values.", value, name))
}

func (s *Service) resetBIOS(w http.ResponseWriter, r *http.Request, _ object) error {
	x, err := s.system(r)
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.pending = defaultBIOS()
	x.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// applyBIOS is a start of the machine: what was pending counts.
func (x *system) applyBIOS() {
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.Copy(x.bios, x.pending)
	clear(x.pending)
}

func (s *Service) registries(*http.Request) (object, error) {
	return list("/redfish/v1/Registries", "MessageRegistryFileCollection", "Registry Files", []string{"/redfish/v1/Registries/" + registryID}), nil
}

func (s *Service) registry(*http.Request) (object, error) {
	p := "/redfish/v1/Registries/" + registryID
	return item(p, "MessageRegistryFile.v1_1_3.MessageRegistryFile", registryID, "BIOS Attribute Registry", object{
		"Languages": []string{"en"}, "Registry": registryID, "Location": []any{object{"Language": "en", "Uri": p + "/" + registryID}},
	}), nil
}

func (s *Service) registryFile(*http.Request) (object, error) {
	var all []any
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := object{
			"AttributeName": name, "DisplayName": name, "Type": "Integer", "LowerBound": 0, "UpperBound": 100, "DefaultValue": 0,
			"ReadOnly": false, "ResetRequired": true,
		}
		if values := attributes[name]; values != nil {
			var words []any
			for _, v := range values {
				words = append(words, object{"ValueName": v, "ValueDisplayName": v})
			}
			delete(a, "LowerBound")
			delete(a, "UpperBound")
			a["Type"], a["Value"], a["DefaultValue"] = "Enumeration", words, values[0]
		}
		all = append(all, a)
	}
	return item("/redfish/v1/Registries/"+registryID+"/"+registryID, "AttributeRegistry.v1_3_8.AttributeRegistry", registryID, "BIOS Attribute Registry", object{
		"Language": "en", "OwningEntity": s.o.Vendor, "RegistryVersion": "1.0.0", "RegistryEntries": object{"Attributes": all},
	}), nil
}
