# pg_failsafe: built with PGXS.
#
#   make                 the library, the install script and the relay
#   make install         into the PostgreSQL that PG_CONFIG names
#   make installcheck    regression and isolation tests in a running server
#   make ASSERT=1        with PostgreSQL's assertions compiled in
#   make COVERAGE=1      instrumented for gcov
#   make FAULTS=1        with fault points, for crash tests only
#   make freeze VERSION=1.2.3   keep the scripts of a release (docs/releasing.md)
#
# Every .c below src/ is part of the library.  The install script is put
# together from the files that src/install.order lists; the grants that end it
# are compiled from src/grants.matrix.  Update scripts take both from there too.

PG_CONFIG ?= pg_config

MODULE_big = pg_failsafe
EXTENSION = pg_failsafe

ROOT := $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(ROOT)/pg_failsafe.control)
EXTENSION_SQL = pg_failsafe--$(EXTVERSION).sql

# What both sides of the relay's socket read and write is the one file of relay/ that
# the library has too.
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c))) relay/frame.o

# Scripts of released versions are kept as they were published; those to the
# version in the making are filled in from the sources.
RELEASED = $(sort $(wildcard sql/released/*.sql))
UPDATES = $(filter-out $(notdir $(RELEASED)),$(notdir $(sort $(wildcard sql/updates/*.sql))))
DATA_built = $(EXTENSION_SQL) $(UPDATES)
DATA = $(filter-out %/$(EXTENSION_SQL),$(RELEASED))

# The test that installs the extension comes first, the others in name order.
TESTS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS = $(filter install,$(TESTS)) $(filter-out install,$(TESTS))
ISOLATION = $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(srcdir)/test/isolation --load-extension=$(EXTENSION)

PG_CPPFLAGS = -I$(srcdir)/src -I$(srcdir) -DFAILSAFE_VERSION="\"$(EXTVERSION)\""
PG_CFLAGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -MMD -MP

# Before 16 every symbol of a library is global: ours must not meet another's.
SHLIB_LINK += -Wl,-Bsymbolic

ifdef ASSERT
PG_CPPFLAGS += -DUSE_ASSERT_CHECKING
endif
ifdef FAULTS
PG_CPPFLAGS += -DFAILSAFE_FAULTS
endif
ifdef COVERAGE
PG_CFLAGS += --coverage -O0
SHLIB_LINK += --coverage
endif

EXTRA_CLEAN = build pg_failsafe_relay $(UPDATES) $(OBJS:.o=.d) $(OBJS:.o=.gcno) $(OBJS:.o=.gcda) results \
	output_iso tmp_check regression.diffs regression.out

# No function here is small enough to gain from being inlined into a query,
# so the bitcode is not built.
override with_llvm := no

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

ifdef COVERAGE
# Distributions set _FORTIFY_SOURCE, which warns when there is no optimization.
override CPPFLAGS += -U_FORTIFY_SOURCE
endif

-include $(OBJS:.o=.d)

# Objects are built again when the flags or the server's version change.
BUILD_KEY = $(VERSION) $(CC) $(CFLAGS) $(CPPFLAGS)

build/flags: FORCE
	@mkdir -p build
	@printf '%s\n' '$(subst ','\'',$(BUILD_KEY))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(BUILD_KEY))' > $@

$(OBJS): build/flags

INSTALL_TOOLS = src/install-script src/version.awk src/install.awk src/grants.awk
INSTALL_LISTS = src/install.order src/grants.matrix $(wildcard src/*.sql src/*/*.sql)

$(EXTENSION_SQL): pg_failsafe.control $(INSTALL_TOOLS) $(INSTALL_LISTS)
	@sh src/install-script > $@.tmp && mv $@.tmp $@

$(UPDATES): %: sql/updates/% src/update.awk $(INSTALL_TOOLS) $(INSTALL_LISTS)
	@awk -f src/update.awk $< > $@.tmp && mv $@.tmp $@

# A release is written down: its install script, and the updates that lead to it.
# From then on they never change (docs/releasing.md).
RELEASED_SQL = sql/released/pg_failsafe--$(VERSION).sql
RELEASED_UPDATES = $(filter %--$(VERSION).sql,$(UPDATES))

freeze: $(RELEASED_UPDATES)
	@printf '%s\n' '$(VERSION)' | grep -qxE '[0-9]+\.[0-9]+\.[0-9]+' || \
	   { echo 'usage: make freeze VERSION=1.2.3 [REPLACE=1]' >&2; exit 1; }
	@test -n '$(REPLACE)' || ! test -e $(RELEASED_SQL) || \
	   { echo '$(RELEASED_SQL) exists; REPLACE=1 if it was not published yet' >&2; exit 1; }
	sh src/install-script $(VERSION) > $(RELEASED_SQL).tmp && mv $(RELEASED_SQL).tmp $(RELEASED_SQL)
	@for script in $(RELEASED_UPDATES); do \
	   mv $$script sql/released/ && rm sql/updates/$$script || exit 1; \
	done

# "make print-REGRESS" tells scripts what a variable holds.
print-%:
	@echo $($*)

# ---- the relay ------------------------------------------------------------------

RELAY = pg_failsafe_relay
RELAY_LIBRARIES = libcurl 7.87 libcrypto 3.0 jansson 2.11
RELAY_MISSING := $(shell command -v pkg-config > /dev/null 2>&1 || { echo pkg-config; exit; }; \
	set -- $(RELAY_LIBRARIES); \
	while [ "$$1" ]; do pkg-config --atleast-version="$$2" "$$1" || echo "$$1"; shift 2; done)

RELAY_PROGRAMS = relay/receiver.c relay/load.c
RELAY_FUZZERS = $(filter-out relay/fuzz/driver.c,$(sort $(wildcard relay/fuzz/*.c)))
RELAY_SOURCES = $(filter-out $(RELAY_PROGRAMS),$(sort $(wildcard relay/*.c)))
RELAY_OBJS = $(patsubst relay/%.c,build/relay/%.o,$(RELAY_SOURCES))
RELAY_PARTS = $(filter-out build/relay/main.o,$(RELAY_OBJS))
RELAY_WARNINGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wdeclaration-after-statement -Wmissing-prototypes
RELAY_CPPFLAGS = -D_GNU_SOURCE -DFAILSAFE_VERSION="\"$(EXTVERSION)\"" \
	$(if $(ASSERT),-DUSE_ASSERT_CHECKING)
RELAY_CFLAGS = -std=gnu11 -O2 -g -fstack-protector-strong -fPIE $(RELAY_WARNINGS) -MMD -MP
RELAY_SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

ifeq ($(RELAY_MISSING),)
RELAY_CPPFLAGS += $(shell pkg-config --cflags libcurl libcrypto jansson)
RELAY_LIBS := $(shell pkg-config --libs libcurl libcrypto jansson)

$(RELAY): $(RELAY_OBJS)
	$(CC) -pie -Wl,-z,relro,-z,now -o $@ $^ $(RELAY_LIBS)

install-relay: $(RELAY) installdirs
	$(INSTALL_PROGRAM) $(RELAY) '$(DESTDIR)$(pkglibdir)/$(RELAY)'

relay-tests: build/relay/receiver build/relay/load build/relay/relay_unit \
	build/relay/relay_sanitized $(patsubst relay/fuzz/%.c,build/relay/fuzz_%,$(RELAY_FUZZERS))
else
.PHONY: $(RELAY)
$(RELAY):
	@echo '$(RELAY) is not built, so there is no delivery by HTTP: $(RELAY_MISSING) missing' \
		'(libcurl4-openssl-dev libssl-dev libjansson-dev pkg-config)'

install-relay: $(RELAY)
relay-tests: $(RELAY)
	@false
endif

all: $(RELAY)
install: install-relay
uninstall: uninstall-relay
uninstall-relay:
	rm -f '$(DESTDIR)$(pkglibdir)/$(RELAY)'

build/relay/%.o: relay/%.c build/flags
	@mkdir -p $(@D)
	$(CC) $(RELAY_CPPFLAGS) $(RELAY_CFLAGS) -c -o $@ $<

build/relay/receiver build/relay/load: build/relay/%: build/relay/%.o build/relay/frame.o \
		build/relay/text.o
	$(CC) -pie -o $@ $^ $(RELAY_LIBS)

# With sanitizers: everything anew, and asserts.
RELAY_CHECKED = $(CC) $(RELAY_CPPFLAGS) -DUSE_ASSERT_CHECKING -std=gnu11 -O1 -g \
	$(RELAY_WARNINGS) $(RELAY_SANITIZE)
RELAY_HEADERS = $(wildcard relay/*.h)

build/relay/relay_sanitized: $(RELAY_SOURCES) $(RELAY_HEADERS)
	@mkdir -p $(@D)
	$(RELAY_CHECKED) -o $@ $(RELAY_SOURCES) $(RELAY_LIBS)

build/relay/relay_unit: test/unit/relay_unit.c $(RELAY_SOURCES) $(RELAY_HEADERS)
	@mkdir -p $(@D)
	$(RELAY_CHECKED) -Irelay -o $@ $< $(filter-out relay/main.c,$(RELAY_SOURCES)) $(RELAY_LIBS)

# libFuzzer where clang has it, else the driver that is part of the sources.
RELAY_FUZZER_CC = $(shell echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return 0; }' | \
	clang -fsanitize=fuzzer,address,undefined -x c - -o /dev/null > /dev/null 2>&1 && echo clang)

RELAY_FUZZ_CLANG = clang $(RELAY_CPPFLAGS) -DUSE_ASSERT_CHECKING -std=gnu11 -O1 -g \
	$(RELAY_WARNINGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
RELAY_FUZZ_GCC = $(RELAY_CHECKED) relay/fuzz/driver.c

build/relay/fuzz_%: relay/fuzz/%.c relay/fuzz/driver.c $(RELAY_SOURCES) $(RELAY_HEADERS)
	@mkdir -p $(@D)
	$(if $(RELAY_FUZZER_CC),$(RELAY_FUZZ_CLANG),$(RELAY_FUZZ_GCC)) -Irelay -o $@ $< \
		$(filter-out relay/main.c,$(RELAY_SOURCES)) $(RELAY_LIBS)

# What bench/run needs beside the relay's own programs.
bench-programs: build/relay/receiver build/relay/load build/bench/null_relay build/bench/http_load

build/bench/%: bench/%.c build/relay/frame.o build/flags
	@mkdir -p $(@D)
	$(CC) $(RELAY_CPPFLAGS) $(RELAY_CFLAGS) -I$(ROOT) -pie -o $@ $< build/relay/frame.o

-include $(wildcard build/relay/*.d build/bench/*.d)

FORCE:
.PHONY: FORCE freeze install-relay uninstall-relay relay-tests bench-programs
