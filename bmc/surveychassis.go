package bmc

import (
	"cmp"
	"context"
	"fmt"

	"github.com/rackstage/provision/fleet"
)

const mostChassis = 4

// An enclosure is where sensors are: by the old resources, or by the new ones.
type enclosure struct {
	Status                           condition
	Thermal, Power                   link
	ThermalSubsystem, PowerSubsystem link
	EnvironmentMetrics, Sensors      link
}

// A reading is a sensor's excerpt.
type reading struct {
	Reading known
}

func (s *survey) chassis(ctx context.Context, c computer) error {
	paths := c.Links.Chassis
	if len(paths) == 0 {
		all, err := s.members(ctx, rootPath+"Chassis")
		if err != nil && !optional(ctx, err) {
			return err
		}
		for _, p := range all {
			paths = append(paths, link{p})
		}
	}
	for _, l := range paths[:min(len(paths), mostChassis)] {
		var ch enclosure
		ok, err := s.see(ctx, localPath(l.Path), &ch)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		s.judge("chassis", ch.Status, "")
		if err := s.sensors(ctx, ch); err != nil {
			return err
		}
	}
	if len(s.found.Sensors) == 0 {
		s.lacks("sensors")
	}
	if s.found.Watts == 0 {
		s.lacks("power draw")
	}
	return nil
}

// sensors reads the old resources, which say most with fewest requests, and the
// new ones where those are missing.
func (s *survey) sensors(ctx context.Context, ch enclosure) error {
	warm, err := s.thermal(ctx, localPath(ch.Thermal.Path))
	if err != nil {
		return err
	}
	fed, err := s.draw(ctx, localPath(ch.Power.Path))
	if err != nil {
		return err
	}
	if !fed {
		if err := s.supplies(ctx, localPath(ch.PowerSubsystem.Path)); err != nil {
			return err
		}
		var env struct{ PowerWatts reading }
		if _, err := s.see(ctx, localPath(ch.EnvironmentMetrics.Path), &env); err != nil {
			return err
		}
		s.found.Watts = cmp.Or(s.found.Watts, float64(env.PowerWatts.Reading.value))
	}
	if warm && fed {
		return nil
	}
	before := len(s.found.Sensors)
	err = s.each(ctx, localPath(ch.Sensors.Path), mostMembers, func(path string) error { return s.sensor(ctx, path, warm, fed) })
	if err != nil || warm || len(s.found.Sensors) > before {
		return err
	}
	return s.metrics(ctx, localPath(ch.ThermalSubsystem.Path))
}

// keep takes a sensor that has a reading, and notes when it is not well.
func (s *survey) keep(n fleet.Sensor, v known, c condition) {
	if c.absent() {
		return
	}
	n.Value, n.Health = float64(v.value), c.health()
	if v.is {
		s.found.Sensors = append(s.found.Sensors, n)
	}
	detail := "no reading"
	if v.is {
		detail = fmt.Sprintf("%s: %.4g %s", n.Health, n.Value, n.Unit)
	}
	s.judge(n.Name, c, detail)
}

func (s *survey) thermal(ctx context.Context, path string) (bool, error) {
	var t struct {
		Temperatures []struct {
			Name                   text
			ReadingCelsius         known
			UpperThresholdCritical number
			Status                 condition
		}
		Fans []struct {
			Name, FanName, ReadingUnits text
			Reading, ReadingRPM         known
			Status                      condition
		}
	}
	ok, err := s.see(ctx, path, &t)
	for _, x := range t.Temperatures[:min(len(t.Temperatures), fleet.MostSensors)] {
		s.keep(fleet.Sensor{Name: string(x.Name), Kind: "temperature", Unit: "°C", Upper: float64(x.UpperThresholdCritical)}, x.ReadingCelsius, x.Status)
	}
	for _, x := range t.Fans[:min(len(t.Fans), fleet.MostSensors)] {
		v := x.Reading
		if !v.is {
			v = x.ReadingRPM
		}
		s.keep(fleet.Sensor{Name: string(cmp.Or(x.Name, x.FanName)), Kind: "fan", Unit: unit(string(cmp.Or(x.ReadingUnits, "RPM")))}, v, x.Status)
	}
	return ok && len(t.Temperatures)+len(t.Fans) > 0, err
}

func (s *survey) draw(ctx context.Context, path string) (bool, error) {
	var p struct {
		PowerControl []struct {
			Name               text
			PowerConsumedWatts known
			Status             condition
		}
		PowerSupplies []struct {
			Name             text
			PowerInputWatts  known
			LastOutput       known `json:"LastPowerOutputWatts"`
			LineInputVoltage known
			Status           condition
		}
		Voltages []struct {
			Name                   text
			ReadingVolts           known
			UpperThresholdCritical number
			Status                 condition
		}
	}
	ok, err := s.see(ctx, path, &p)
	for i, x := range p.PowerControl[:min(len(p.PowerControl), 16)] {
		if i == 0 { // the whole machine, by the schema
			s.found.Watts += float64(x.PowerConsumedWatts.value)
		}
		s.keep(fleet.Sensor{Name: string(cmp.Or(x.Name, "Power")), Kind: "power", Unit: "W"}, x.PowerConsumedWatts, x.Status)
	}
	for _, x := range p.PowerSupplies[:min(len(p.PowerSupplies), 16)] {
		v := x.PowerInputWatts
		if !v.is {
			v = x.LastOutput
		}
		s.keep(fleet.Sensor{Name: string(x.Name), Kind: "power", Unit: "W"}, v, x.Status)
	}
	for _, x := range p.Voltages[:min(len(p.Voltages), fleet.MostSensors)] {
		s.keep(fleet.Sensor{Name: string(x.Name), Kind: "voltage", Unit: "V", Upper: float64(x.UpperThresholdCritical)}, x.ReadingVolts, x.Status)
	}
	return ok && len(p.PowerControl) > 0, err
}

// supplies are those of the newer PowerSubsystem.
func (s *survey) supplies(ctx context.Context, path string) error {
	var sub struct {
		Status        condition
		PowerSupplies link
	}
	ok, err := s.see(ctx, path, &sub)
	if !ok {
		return err
	}
	s.judge("power", sub.Status, "")
	return s.each(ctx, localPath(sub.PowerSupplies.Path), 16, func(path string) error {
		var p struct {
			Name   text
			Status condition
		}
		_, err := s.see(ctx, path, &p)
		s.judge(string(p.Name), p.Status, "")
		return err
	})
}

// sensor reads one of the newer Sensors, of those kinds that are not known yet.
func (s *survey) sensor(ctx context.Context, path string, warm, fed bool) error {
	var x struct {
		Name                      text
		ReadingType, ReadingUnits text
		Reading                   known
		Status                    condition
		Thresholds                struct{ UpperCritical struct{ Reading number } }
	}
	ok, err := s.see(ctx, path, &x)
	kind := map[text]string{"Temperature": "temperature", "Rotational": "fan", "Percent": "fan", "Power": "power", "Voltage": "voltage", "Current": "current"}[x.ReadingType]
	heat := kind == "temperature" || kind == "fan"
	if !ok || kind == "" || heat && warm || !heat && fed {
		return err
	}
	s.keep(fleet.Sensor{Name: string(x.Name), Kind: kind, Unit: unit(string(x.ReadingUnits)), Upper: float64(x.Thresholds.UpperCritical.Reading)}, x.Reading, x.Status)
	return nil
}

// metrics are temperatures without sensors behind them.
func (s *survey) metrics(ctx context.Context, path string) error {
	var sub struct{ ThermalMetrics link }
	if ok, err := s.see(ctx, path, &sub); !ok {
		return err
	}
	var m struct {
		TemperatureReadingsCelsius []struct {
			DeviceName text
			Reading    known
		}
	}
	_, err := s.see(ctx, localPath(sub.ThermalMetrics.Path), &m)
	for _, x := range m.TemperatureReadingsCelsius[:min(len(m.TemperatureReadingsCelsius), fleet.MostSensors)] {
		s.keep(fleet.Sensor{Name: string(x.DeviceName), Kind: "temperature", Unit: "°C"}, x.Reading, condition{})
	}
	return err
}

// unit is how we write units.
func unit(word string) string {
	switch word {
	case "Cel":
		return "°C"
	case "RPM", "{rev}/min":
		return "rpm"
	case "Percent", "%":
		return "%"
	case "W", "V", "A":
		return word
	}
	return fleet.CleanText(word)
}
