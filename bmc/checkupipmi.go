package bmc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/storage"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// examineIPMI reads the same by IPMI: device and chassis, FRU 0, sensors, SEL.
func examineIPMI(ctx context.Context, c *Controller, t Target, all bool) (fleet.Checkup, error) {
	return talkIPMI(ctx, c, t, operator, func(ctx context.Context, ipmi *client.Client) (fleet.Checkup, error) {
		e := &examination{ipmi: ipmi}
		err := safely(func() error { return e.take(ctx, all) })
		return e.found, err
	})
}

// An examination is a checkup by IPMI.
type examination struct {
	ipmi  *client.Client
	found fleet.Checkup
}

// safely has go-ipmi's parsers read what a BMC sends: some panic at records that
// say they are longer than they are.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: what it says cannot be read", ErrRejected)
		}
	}()
	return f()
}

func (e *examination) take(ctx context.Context, all bool) error {
	status, err := e.ipmi.GetChassisStatus(ctx)
	if err != nil {
		return fmt.Errorf("read chassis status: %w", err)
	}
	e.found.Health = fleet.HealthOK
	e.found.Power = map[bool]fleet.PowerState{true: fleet.PowerIsOn, false: fleet.PowerIsOff}[status.PowerIsOn]
	for part, broken := range map[string]bool{
		"power supply": status.PowerFault, "power overload": status.PowerOverload, "fan": status.CollingFanFault, "drive": status.DriveFault,
	} {
		if broken {
			e.fault(fleet.Fault{Part: part, Health: fleet.HealthCritical, Detail: "fault"})
		}
	}
	parts := map[string]func(context.Context) error{"sensors": e.sensors, "event log": e.log, "power draw": e.draw}
	if all {
		parts["FRU"] = e.describe
	}
	for _, what := range []string{"FRU", "sensors", "power draw", "event log"} {
		if parts[what] == nil {
			continue
		}
		err := classify(safely(func() error { return parts[what](ctx) }))
		switch {
		case err == nil:
		case ctx.Err() == nil && (errors.Is(err, ErrRejected) || errors.Is(err, ErrDenied) || errors.Is(err, ErrUnsupported)):
			e.found.Lacks = append(e.found.Lacks, what)
		default:
			return err
		}
	}
	if slices.Contains(e.found.Lacks, "sensors") && e.found.Health == fleet.HealthOK { // the chassis tells of little
		e.found.Health = fleet.HealthUnknown
	}
	slices.SortStableFunc(e.found.Faults, func(a, b fleet.Fault) int { return strings.Compare(a.Part, b.Part) })
	return nil
}

func (e *examination) fault(f fleet.Fault) {
	e.found.Faults = append(e.found.Faults, f)
	e.found.Health = e.found.Health.Worse(f.Health)
}

// describe reads who made the machine, and the BMC's own version.
func (e *examination) describe(ctx context.Context) error {
	id, err := e.ipmi.GetDeviceID(ctx)
	if err != nil {
		return fmt.Errorf("read device id: %w", err)
	}
	h := &e.found.Hardware
	h.Firmware = []fleet.Firmware{{
		ID: "BMC", Name: fmt.Sprintf("BMC of manufacturer %d, product %d", id.ManufacturerID, id.ProductID), Version: id.FirmwareVersionStr(),
	}}
	fru, err := e.ipmi.GetFRU(ctx, 0, "")
	if err != nil {
		return fmt.Errorf("read FRU: %w", err)
	}
	describeFRU(h, fru)
	return nil
}

// describeFRU takes what the product area says, or else board and chassis.
func describeFRU(h *fleet.Hardware, fru *types.FRU) {
	take := func(field *string, how types.TypeLength, raw []byte) {
		said := fleet.CleanText(strings.ToValidUTF8(types.FRUFieldString(how, raw), ""))
		*field = cmp.Or(*field, said)
	}
	if p := fru.ProductInfoArea; p != nil {
		take(&h.Vendor, p.ManufacturerTypeLength, p.Manufacturer)
		take(&h.Model, p.NameTypeLength, p.Name)
		take(&h.Part, p.PartModelTypeLength, p.PartModel)
		take(&h.Serial, p.SerialNumberTypeLength, p.SerialNumber)
		take(&h.AssetTag, p.AssetTagTypeLength, p.AssetTag)
	}
	if b := fru.BoardInfoArea; b != nil {
		take(&h.Vendor, b.ManufacturerTypeLength, b.Manufacturer)
		take(&h.Model, b.ProductNameTypeLength, b.ProductName)
		take(&h.Part, b.PartNumberTypeLength, b.PartNumber)
		take(&h.Serial, b.SerialNumberTypeLength, b.SerialNumber)
	}
	if c := fru.ChassisInfoArea; c != nil {
		take(&h.Serial, c.SerialNumberTypeLength, c.SerialNumber)
		take(&h.Part, c.PartNumberTypeLength, c.PartNumber)
	}
}

// draw asks by DCMI, which many have; else the sensors may say it.
func (e *examination) draw(ctx context.Context) error {
	r, err := e.ipmi.GetDCMIPowerReading(ctx)
	if err == nil {
		e.found.Watts = float64(r.CurrentPower)
		return nil
	}
	for _, s := range e.found.Sensors {
		if s.Kind == "power" {
			e.found.Watts = max(e.found.Watts, s.Value)
		}
	}
	if e.found.Watts > 0 {
		return nil
	}
	return err
}

const mostRecords = 1024 // of a repository of sensors, or of a log

// sensors walks through the sensor repository.
func (e *examination) sensors(ctx context.Context) error {
	next := uint16(0)
	for seen := map[uint16]bool{}; next != lastRecord && !seen[next] && len(seen) < mostRecords; {
		seen[next] = true
		raw, after, err := e.record(ctx, next)
		if err != nil {
			return err
		}
		err = classify(safely(func() error { return e.sensor(ctx, raw, after) }))
		if err != nil && !errors.Is(err, ErrRejected) { // one that is broken leaves the others
			return err
		}
		next = after
	}
	return nil
}

const (
	lastRecord  = 0xffff
	wholeRecord = 0xff
	recordPart  = 16 // bytes that every BMC can send at once
	recordHead  = 5
)

// record reads one record, whole, or in parts where it is too long for that.
func (e *examination) record(ctx context.Context, id uint16) (raw []byte, next uint16, err error) {
	res := new(storage.GetSDRResponse)
	if err := e.ipmi.Exchange(ctx, &storage.GetSDRRequest{RecordID: id, ReadBytes: wholeRecord}, res); err == nil {
		return res.RecordData, res.NextRecordID, nil
	} else if completion(err) == 0 {
		return nil, 0, fmt.Errorf("read sensor record: %w", err)
	}
	reserved, err := e.ipmi.ReserveSDRRepo(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("reserve sensor repository: %w", err)
	}
	for want := recordHead; len(raw) < want; {
		part := min(want-len(raw), recordPart)
		res := new(storage.GetSDRResponse)
		request := &storage.GetSDRRequest{ReservationID: reserved.ReservationID, RecordID: id, ReadOffset: uint8(len(raw)), ReadBytes: uint8(part)} //nolint:gosec // below 256
		if err := e.ipmi.Exchange(ctx, request, res); err != nil {
			return nil, 0, fmt.Errorf("read sensor record: %w", err)
		}
		if len(res.RecordData) == 0 {
			return nil, 0, fmt.Errorf("%w: it sends an empty sensor record", ErrRejected)
		}
		if raw, next = append(raw, res.RecordData...), res.NextRecordID; len(raw) >= recordHead {
			want = min(recordHead+int(raw[recordHead-1]), 255-recordPart)
		}
	}
	return raw, next, nil
}

// sensor reads the sensor that a record describes.
func (e *examination) sensor(ctx context.Context, raw []byte, next uint16) error {
	sdr, err := types.ParseSDR(raw, next)
	if err != nil {
		return nil //nolint:nilerr // one that cannot be read
	}
	if s, ok := statefulOf(sdr); ok {
		return e.states(ctx, s)
	}
	if sdr.Full == nil || len(e.found.Sensors) >= fleet.MostSensors {
		return nil // not a sensor with a value
	}
	return e.value(ctx, sdr.Full)
}

// value reads the value of a sensor.
func (e *examination) value(ctx context.Context, full *types.SDRFull) error {
	read, err := e.reading(ctx, full.GeneratorID, uint8(full.SensorNumber))
	kind := sensorKinds[full.SensorUnit.BaseUnit]
	if err != nil || read == nil || kind.kind == "" || !full.HasAnalogReading() {
		return err
	}
	s := fleet.Sensor{
		Name: fleet.CleanText(strings.ToValidUTF8(string(full.IDStringBytes), "")), Kind: kind.kind, Unit: kind.unit,
		Value: full.ConvertReading(read.Reading), Health: thresholdHealth(read.ThresholdStatus()),
	}
	if full.Mask.Threshold.UCR.Readable {
		s.Upper = full.ConvertReading(full.UCR_Raw)
	}
	e.found.Sensors = append(e.found.Sensors, s)
	if s.Health.Bad() {
		e.fault(fleet.Fault{Part: s.Name, Health: s.Health, Detail: fmt.Sprintf("%s: %.4g %s", s.Health, s.Value, s.Unit)})
	}
	return nil
}

// sensorKinds are the units that we show, and what is measured in them.
var sensorKinds = map[types.SensorUnitType]struct{ kind, unit string }{
	types.SensorUnitType_DegreesC: {"temperature", "°C"},
	types.SensorUnitType_RPM:      {"fan", "rpm"},
	types.SensorUnitType_Watts:    {"power", "W"},
	types.SensorUnitType_Volts:    {"voltage", "V"},
	types.SensorUnitType_Amps:     {"current", "A"},
}

func thresholdHealth(s types.SensorThresholdStatus) fleet.Health {
	switch s {
	case types.SensorThresholdStatus_UNC, types.SensorThresholdStatus_LNC:
		return fleet.HealthWarning
	case types.SensorThresholdStatus_UCR, types.SensorThresholdStatus_LCR, types.SensorThresholdStatus_UNR, types.SensorThresholdStatus_LNR:
		return fleet.HealthCritical
	}
	return fleet.HealthOK
}

// log reads the newest of the system event log. Numbers of records mostly
// follow each other; where they do not, it is read from its beginning.
func (e *examination) log(ctx context.Context) error {
	info, err := e.ipmi.GetSELInfo(ctx)
	if err != nil {
		return fmt.Errorf("read event log: %w", err)
	}
	e.found.Log = fleet.EventLog{Name: "SEL", Total: int(info.Entries)}
	if info.Entries == 0 {
		return nil
	}
	last, _, err := e.entry(ctx, lastRecord)
	if err != nil {
		return err
	}
	if from := int(last.RecordID) - fleet.MostEntries + 1; from > 1 {
		if ok, err := e.entriesFrom(ctx, uint16(from)); ok || err != nil { //nolint:gosec // of a uint16
			return err
		}
	}
	_, err = e.entriesFrom(ctx, 0)
	return err
}

// entriesFrom reads on from a record; false when there is none of that number.
func (e *examination) entriesFrom(ctx context.Context, id uint16) (bool, error) {
	for n := range mostRecords {
		entry, next, err := e.entry(ctx, id)
		if n == 0 && completion(err) != 0 {
			return false, nil //nolint:nilerr // the BMC says so
		}
		if err != nil {
			return false, err
		}
		e.found.Log.Entries = append(e.found.Log.Entries, logEntry(entry))
		if len(e.found.Log.Entries) > 2*fleet.MostEntries { // the newest come last
			e.found.Log.Entries = slices.Clone(e.found.Log.Entries[fleet.MostEntries:])
		}
		if next == lastRecord || next == id || next == 0 {
			break
		}
		id = next
	}
	return true, nil
}

func (e *examination) entry(ctx context.Context, id uint16) (*types.SEL, uint16, error) {
	res := new(storage.GetSELEntryResponse)
	if err := e.ipmi.Exchange(ctx, &storage.GetSELEntryRequest{RecordID: id, ReadBytes: wholeRecord}, res); err != nil {
		return nil, 0, fmt.Errorf("read event log: %w", err)
	}
	sel, err := types.ParseSEL(res.Data)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: an entry of its event log cannot be read (%v)", ErrRejected, err)
	}
	return sel, res.NextRecordID, nil
}

// logEntry puts a record into words.
func logEntry(sel *types.SEL) fleet.LogEntry {
	e := fleet.LogEntry{ID: fmt.Sprint(sel.RecordID), Text: "record of the manufacturer"}
	switch {
	case sel.Standard != nil:
		s := sel.Standard
		e.At = clockTime(s.Timestamp)
		e.Health = healthOf(string(s.EventSeverity()))
		over := ""
		if s.EventDir {
			over = " (over)"
		}
		e.Text = fleet.CleanText(fmt.Sprintf("%s #%#02x: %s%s", s.SensorType, uint8(s.SensorNumber), cmp.Or(s.EventString(), "event"), over))
	case sel.OEMTimestamped != nil:
		e.At = clockTime(sel.OEMTimestamped.Timestamp)
	}
	return e
}

// clockTime drops times from before the BMC's clock was set.
func clockTime(t time.Time) time.Time {
	const firstIPMI2 = 2004
	if t.Year() < firstIPMI2 {
		return time.Time{}
	}
	return t.UTC()
}

// clearSEL empties the system event log, which takes a while, and looks whether
// it did.
func clearSEL(ctx context.Context, c *Controller, t Target) error {
	_, err := talkIPMI(ctx, c, t, operator, func(ctx context.Context, ipmi *client.Client) (none struct{}, err error) {
		reserved, err := ipmi.ReserveSEL(ctx)
		if err != nil {
			return none, fmt.Errorf("reserve event log: %w", err)
		}
		if _, err := ipmi.ClearSEL(ctx, reserved.ReservationID); err != nil {
			return none, fmt.Errorf("clear event log: %w", err)
		}
		for range 20 {
			var info *storage.GetSELInfoResponse
			if info, err = ipmi.GetSELInfo(ctx); err != nil {
				return none, fmt.Errorf("read event log: %w", err)
			}
			if info.Entries <= 1 { // "log cleared"
				return none, nil
			}
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return none, err
			}
		}
		return none, fmt.Errorf("%w: its event log is not empty", ErrNoEffect)
	})
	return err
}
