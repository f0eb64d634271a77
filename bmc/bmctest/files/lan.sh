# What ipmi_sim asks for its address, which is $1: "get NAME…" or "set NAME VALUE…".
address=$1
[ "$2" = get ] || exit 0
shift 2
for name; do
  case $name in
  ip_addr) echo "ip_addr:$address" ;;
  ip_addr_src) echo "ip_addr_src:dhcp" ;;
  mac_addr) echo "mac_addr:52:54:00:77:01:0b" ;;
  *_mac_addr) echo "$name:00:00:00:00:00:00" ;;
  *) echo "$name:0.0.0.0" ;;
  esac
done
