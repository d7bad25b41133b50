# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# shellcheck shell=bash
#
# Packages of another Debian release than this machine's, from the archive that
# this machine's apt knows.  A configuration of its own leaves the machine's
# package lists alone and needs no root; proxies and credentials still come from
# the machine's.

readonly archive_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The archive's addresses and the release that each is for.  apt parses both
# forms of its sources; third-party ones are told apart by the origin that their
# Release file names, or, before the first apt-get update, by having none.
archive_addresses()
{
	# shellcheck disable=SC2016 # the names are apt's
	apt-get indextargets 'Created-By: Packages' \
		--format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN) $(LABEL)' |
	while read -r uri release component origin label; do
		[ "$component" = main ] || continue
		case $origin/$label in
		Debian/Debian* | *'$(ORIGIN)'* | /) echo "${uri%/} $release" ;;
		esac
	done | sort -u
}

# The same of another release, as apt's own lines.
# $1: deb or deb-src, $2: the release's name
archive_sources()
{
	local codename

	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	archive_addresses | while read -r uri release; do
		case $release in
		"$codename" | "$2" | stable | oldstable | testing | sid | unstable)
			echo "$1 [signed-by=$archive_keyring] $uri $2 main" ;;
		"$codename-security" | "$2-security" | stable-security | oldstable-security)
			echo "$1 [signed-by=$archive_keyring] $uri $2-security main" ;;
		esac
	done | sort -u
}

# Makes $1 the folder of the private configuration and reads the indices.  Says
# what is wrong on standard error and fails.
# $1: folder, $2: deb or deb-src, $3: the release's name
archive_open()
{
	archive_folder=$1
	if [ ! -f "$archive_keyring" ]; then
		echo "$archive_keyring is missing: apt-get install debian-archive-keyring" >&2
		return 1
	fi
	mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial"
	archive_sources "$2" "$3" > "$1/sources.list"
	if [ ! -s "$1/sources.list" ]; then
		echo "this machine's apt sources name no Debian archive; add one to /etc/apt/sources.list.d" >&2
		return 1
	fi
	if ! archive_apt apt-get -qq update; then
		echo "the index of $3 cannot be fetched or verified; check the network and apt's proxy settings" >&2
		return 1
	fi
}

# An apt command with that configuration.
archive_apt()
{
	local command=$1

	shift
	"$command" -o "Dir::Etc::SourceList=$archive_folder/sources.list" \
		-o Dir::Etc::SourceParts=/dev/null \
		-o "Dir::State=$archive_folder/state" -o "Dir::Cache=$archive_folder/cache" \
		-o APT::Sandbox::User= -o APT::Update::Error-Mode=any \
		-o Acquire::Retries=3 "$@"
}
