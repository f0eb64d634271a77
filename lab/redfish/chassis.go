package redfish

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const chassis = "/redfish/v1/Chassis"

// chassisPath is a system's chassis: it has the system's id.
func (s *Service) chassisPath(x *system) string { return chassis + "/" + x.ID }

func (s *Service) chassisResources() map[string]resource {
	const one = chassis + "/{system}"
	return map[string]resource{
		chassis: {get: func(*http.Request) (object, error) {
			var paths []string
			for _, x := range s.systems {
				paths = append(paths, s.chassisPath(x))
			}
			return list(chassis, "ChassisCollection", "Chassis Collection", paths), nil
		}},
		one:                                      {get: s.inChassis(s.showChassis)},
		one + "/Thermal":                         {get: s.old(thermal)},
		one + "/Power":                           {get: s.old(powerDraw)},
		one + "/Sensors":                         {get: s.inChassis(sensors)},
		one + "/Sensors/{sensor}":                {get: s.showSensor},
		one + "/EnvironmentMetrics":              {get: s.inChassis(environment)},
		one + "/ThermalSubsystem":                {get: s.inChassis(thermalSubsystem)},
		one + "/ThermalSubsystem/ThermalMetrics": {get: s.inChassis(thermalMetrics)},
	}
}

func (s *Service) inChassis(show func(f Facts, p string) object) func(*http.Request) (object, error) {
	return func(r *http.Request) (object, error) {
		x, err := s.system(r)
		if err != nil {
			return nil, err
		}
		return show(x.facts(), s.chassisPath(x)), nil
	}
}

// old is for resources that newer services do not have any more.
func (s *Service) old(show func(f Facts, p string) object) func(*http.Request) (object, error) {
	return func(r *http.Request) (object, error) {
		if s.Faults().NewOnly {
			return nil, notFound(r.URL.Path)
		}
		return s.inChassis(show)(r)
	}
}

func (s *Service) showChassis(f Facts, p string) object {
	id := p[strings.LastIndexByte(p, '/')+1:]
	o := item(p, "Chassis.v1_25_0.Chassis", id, "Chassis", object{
		"ChassisType": "RackMount", "Manufacturer": f.Vendor, "Model": f.Model, "SerialNumber": f.Serial, "PartNumber": f.Part, "SKU": f.SKU,
		"AssetTag": f.AssetTag, "PowerState": "On", "IndicatorLED": "Off", "Status": fine(),
		"Thermal": link(p + "/Thermal"), "Power": link(p + "/Power"), "Sensors": link(p + "/Sensors"),
		"EnvironmentMetrics": link(p + "/EnvironmentMetrics"), "ThermalSubsystem": link(p + "/ThermalSubsystem"),
		"Links": object{"ComputerSystems": links([]string{systems + "/" + id}), "ManagedBy": links([]string{s.managerPath()})},
	})
	if s.Faults().NewOnly {
		delete(o, "Thermal")
		delete(o, "Power")
	}
	return o
}

// pick returns what show makes of the sensors of one kind.
func (f Facts) pick(kind string, show func(i int, n Sensor) object) []any {
	all := []any{}
	for _, n := range f.Sensors {
		if n.Kind == kind {
			all = append(all, show(len(all), n))
		}
	}
	return all
}

func thermal(f Facts, p string) object {
	p += "/Thermal"
	return item(p, "Thermal.v1_7_3.Thermal", "Thermal", "Thermal", object{
		"Temperatures": f.pick("Temperature", func(i int, n Sensor) object {
			return object{
				"@odata.id": p + "#/Temperatures/" + strconv.Itoa(i), "MemberId": strconv.Itoa(i), "Name": n.Name,
				"ReadingCelsius": n.value(), "UpperThresholdCritical": n.limit(), "PhysicalContext": "SystemBoard", "Status": n.status(),
			}
		}),
		"Fans": f.pick("Fan", func(i int, n Sensor) object {
			return object{
				"@odata.id": p + "#/Fans/" + strconv.Itoa(i), "MemberId": strconv.Itoa(i), "Name": n.Name,
				"Reading": n.value(), "ReadingUnits": "RPM", "Status": n.status(),
			}
		}),
	})
}

func powerDraw(f Facts, p string) object {
	p += "/Power"
	return item(p, "Power.v1_7_3.Power", "Power", "Power", object{
		"PowerControl": f.pick("Power", func(i int, n Sensor) object {
			return object{
				"@odata.id": p + "#/PowerControl/" + strconv.Itoa(i), "MemberId": strconv.Itoa(i), "Name": n.Name,
				"PowerConsumedWatts": n.value(), "PowerCapacityWatts": 750, "Status": n.status(),
			}
		}),
		"PowerSupplies": []any{object{
			"@odata.id": p + "#/PowerSupplies/0", "MemberId": "0", "Name": "PSU1", "PowerCapacityWatts": 750, "Model": "Contoso 750W",
			"SerialNumber": "P" + f.Serial, "FirmwareVersion": "1.0", "Status": fine(),
		}},
		"Voltages": f.pick("Voltage", func(i int, n Sensor) object {
			return object{
				"@odata.id": p + "#/Voltages/" + strconv.Itoa(i), "MemberId": strconv.Itoa(i), "Name": n.Name,
				"ReadingVolts": n.value(), "UpperThresholdCritical": n.limit(), "Status": n.status(),
			}
		}),
	})
}

// id is the name without what a path cannot have.
func (n Sensor) id() string { return strings.ReplaceAll(n.Name, " ", "") }

func sensors(f Facts, p string) object {
	var paths []string
	for _, n := range f.Sensors {
		paths = append(paths, p+"/Sensors/"+n.id())
	}
	return list(p+"/Sensors", "SensorCollection", "Sensors", paths)
}

func (s *Service) showSensor(r *http.Request) (object, error) {
	x, err := s.system(r)
	if err != nil {
		return nil, err
	}
	all := x.facts().Sensors
	i := slices.IndexFunc(all, func(n Sensor) bool { return n.id() == r.PathValue("sensor") })
	if i < 0 {
		return nil, notFound(r.URL.Path)
	}
	return all[i].show(s.chassisPath(x)), nil
}

func (n Sensor) show(chassis string) object {
	units := map[string]string{"Temperature": "Cel", "Fan": "{rev}/min", "Power": "W", "Voltage": "V"}
	kinds := map[string]string{"Fan": "Rotational"}
	kind := n.Kind
	if k := kinds[kind]; k != "" {
		kind = k
	}
	return item(chassis+"/Sensors/"+n.id(), "Sensor.v1_9_0.Sensor", n.id(), n.Name, object{
		"Reading": n.value(), "ReadingType": kind, "ReadingUnits": units[n.Kind], "Status": n.status(),
		"Thresholds": object{"UpperCritical": object{"Reading": n.limit()}},
	})
}

func environment(f Facts, p string) object {
	o := item(p+"/EnvironmentMetrics", "EnvironmentMetrics.v1_3_1.EnvironmentMetrics", "EnvironmentMetrics", "Environment", nil)
	for _, n := range f.Sensors {
		excerpt := object{"DataSourceUri": p + "/Sensors/" + n.id(), "Reading": n.value()}
		switch n.Kind {
		case "Temperature":
			if o["TemperatureCelsius"] == nil {
				o["TemperatureCelsius"] = excerpt
			}
		case "Power":
			o["PowerWatts"] = excerpt
		}
	}
	return o
}

func thermalSubsystem(_ Facts, p string) object {
	p += "/ThermalSubsystem"
	return item(p, "ThermalSubsystem.v1_3_2.ThermalSubsystem", "ThermalSubsystem", "Thermal Subsystem", object{
		"ThermalMetrics": link(p + "/ThermalMetrics"), "Status": fine(),
	})
}

func thermalMetrics(f Facts, p string) object {
	return item(p+"/ThermalSubsystem/ThermalMetrics", "ThermalMetrics.v1_3_1.ThermalMetrics", "ThermalMetrics", "Thermal Metrics", object{
		"TemperatureReadingsCelsius": f.pick("Temperature", func(_ int, n Sensor) object {
			return object{"DeviceName": n.Name, "DataSourceUri": p + "/Sensors/" + n.id(), "Reading": n.value()}
		}),
	})
}
