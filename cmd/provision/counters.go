package main

import (
	"maps"
	"reflect"
	"strings"
	"unicode"
)

// counters is what was counted since the start, by the names that metrics
// have: provision_dhcp_received_total.
func (st *station) counters() map[string]int64 {
	all := map[string]int64{
		"provision_evidence_dropped_total":  st.engine.Dropped(),
		"provision_evidence_too_many_total": st.engine.TooMany(),
	}
	maps.Copy(all, countersOf("provision_alarms_", st.engine.AlarmStats()))
	if st.lessons != nil {
		maps.Copy(all, countersOf("provision_lessons_", st.lessons.Stats()))
	}
	if st.store != nil {
		all["provision_leases_refused_total"] = st.store.RefusedLeases()
	}
	if st.tree != nil && st.tree.web != nil {
		maps.Copy(all, countersOf("provision_http_boot_", st.tree.web.BootStats()))
	}
	if st.dhcp != nil {
		maps.Copy(all, countersOf("provision_dhcp_", st.dhcp.Stats()))
		maps.Copy(all, countersOf("provision_dhcp6_", st.dhcp6.Stats()))
		maps.Copy(all, countersOf("provision_dhcp_foreign_", st.dhcp.ForeignStats()))
	}
	if st.relays != nil {
		maps.Copy(all, countersOf("provision_relay_", st.relays.Totals()))
	}
	if st.tftp != nil {
		maps.Copy(all, countersOf("provision_tftp_", st.tftp.Stats()))
	}
	return all
}

// countersOf names the counters of a struct of them: NoAddress becomes
// no_address_total, and Strangers of TFTP tftp_strangers_total. What goes down
// again is no total: its field is tagged `metric:"gauge"`.
func countersOf(prefix string, stats any) map[string]int64 {
	v, out := reflect.ValueOf(stats), map[string]int64{}
	for i := range v.NumField() {
		f, field := v.Field(i), v.Type().Field(i)
		name := prefix + snakeCase(field.Name)
		switch {
		case f.Kind() == reflect.Struct:
			maps.Copy(out, countersOf(name+"_", f.Interface()))
		case f.CanInt():
			if field.Tag.Get("metric") != "gauge" {
				name += "_total"
			}
			out[name] = f.Int()
		}
	}
	return out
}

// snakeCase writes NoAddress as no_address, ACKs as acks, HTTPPort as
// http_port.
func snakeCase(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+2 < len(runes) && unicode.IsLower(runes[i+1]) && unicode.IsLower(runes[i+2])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
