/*
 * relay/fuzz/driver.c
 *	  Runs a fuzz target where there is no libFuzzer: mutates the files that it is given.
 *	  It understands of libFuzzer's options -max_total_time=SECONDS and -seed=NUMBER.
 *
 *		fuzz_NAME [-max_total_time=SECONDS] [-seed=NUMBER] [CORPUS-DIRECTORY|FILE]...
 *
 * A file without a time runs once: that is how a finding is repeated.  The input that is
 * being tried is in fuzz-input of the current directory when a target crashes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "assertion.h"
#include "clock.h"

#define INPUT_BYTES_MAX		8192
#define INPUTS_MAX			1000
#define MUTATIONS_MAX		8

typedef struct Input
{
	size_t		length;
	uint8_t		byte[INPUT_BYTES_MAX];
} Input;

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static Input *inputs[INPUTS_MAX];
static int	input_count;
static uint64_t random_state;

/* xorshift64*: good enough to walk through inputs, and the same for the same seed. */
static uint32_t
random_below(uint32_t limit)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t) ((random_state * UINT64_C(2685821657736338717)) >> 32) % limit;
}

static void
read_input(const char *path)
{
	Input	   *input = malloc(sizeof(Input));
	int			file = open(path, O_RDONLY);
	ssize_t		got;

	if (input == NULL || file < 0 || (got = read(file, input->byte, INPUT_BYTES_MAX)) < 0)
	{
		perror(path);
		exit(1);
	}
	close(file);
	input->length = (size_t) got;
	if (input_count < INPUTS_MAX)
		inputs[input_count++] = input;
}

static void
read_inputs(const char *path)
{
	struct stat found;
	struct dirent *entry;
	char		name[4096];
	DIR		   *directory;

	if (stat(path, &found) != 0 || !S_ISDIR(found.st_mode))
	{
		read_input(path);
		return;
	}
	directory = opendir(path);
	while (directory != NULL && (entry = readdir(directory)) != NULL)
	{
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (stat(name, &found) == 0 && S_ISREG(found.st_mode))
			read_input(name);
	}
	closedir(directory);
}

static void
insert_bytes(Input *input, size_t at, const uint8_t *bytes, size_t length)
{
	Assert(at <= input->length);
	if (length > INPUT_BYTES_MAX - input->length)
		length = INPUT_BYTES_MAX - input->length;
	memmove(input->byte + at + length, input->byte + at, input->length - at);
	memcpy(input->byte + at, bytes, length);
	input->length += length;
}

static void
remove_bytes(Input *input, size_t at, size_t length)
{
	Assert(at <= input->length);
	if (length > input->length - at)
		length = input->length - at;
	memmove(input->byte + at, input->byte + at + length, input->length - at - length);
	input->length -= length;
}

static void
mutate(Input *input)
{
	static const uint8_t special[] = {0, 1, 4, 8, 0x7F, 0x80, 0xFF, '"', '\\', '{', '}', '[', '%',
	'\r', '\n', ':', '/', '@', '#', '?', '-', '0', '9'};
	size_t		at = random_below((uint32_t) input->length + 1);
	const Input *other = inputs[random_below((uint32_t) input_count)];
	size_t		from = random_below((uint32_t) other->length + 1);
	uint8_t		byte = special[random_below(sizeof(special))];

	switch (random_below(6))
	{
		case 0:
			insert_bytes(input, at, &byte, 1);
			break;
		case 1:
			remove_bytes(input, at, 1 + random_below(8));
			break;
		case 2:
			insert_bytes(input, at, other->byte + from,
						 random_below((uint32_t) (other->length - from) + 1));
			break;
		case 3:
			if (at < input->length)
				input->byte[at] = byte;
			break;
		case 4:
			if (at < input->length)
				input->byte[at] ^= (uint8_t) (1 << random_below(8));
			break;
		default:
			if (at < input->length)
				input->byte[at] = (uint8_t) random_below(256);
	}
}

/* A mapped file: what is in it when the process dies stays. */
static Input *
open_current(void)
{
	int			file = open("fuzz-input", O_RDWR | O_CREAT | O_TRUNC, 0600);
	void	   *current;

	if (file < 0 || ftruncate(file, sizeof(Input)) != 0)
	{
		perror("fuzz-input");
		exit(1);
	}
	current = mmap(NULL, sizeof(Input), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (current == MAP_FAILED)
	{
		perror("fuzz-input");
		exit(1);
	}
	return current;
}

/* Exactly as long as the input: the sanitizer sees every byte too many. */
static void
try_input(const Input *input)
{
	uint8_t    *copy = malloc(input->length > 0 ? input->length : 1);

	if (copy == NULL)
		exit(1);
	memcpy(copy, input->byte, input->length);
	LLVMFuzzerTestOneInput(copy, input->length);
	free(copy);
}

static void
run(double seconds)
{
	Input	   *current = open_current();
	int64_t		until = clock_us() + (int64_t) (seconds * 1e6);
	long		runs = 0;

	while (clock_us() < until)
	{
		const Input *seed = inputs[random_below((uint32_t) input_count)];

		current->length = seed->length;
		memcpy(current->byte, seed->byte, seed->length);
		for (uint32_t i = 0, count = 1 + random_below(MUTATIONS_MAX); i < count; i++)
			mutate(current);
		try_input(current);
		runs++;
	}
	fprintf(stderr, "Done %ld runs\n", runs);
	unlink("fuzz-input");
}

int
main(int argument_count, char **arguments)
{
	double		seconds = 0;

	random_state = (uint64_t) clock_us() | 1;
	for (int i = 1; i < argument_count; i++)
	{
		if (sscanf(arguments[i], "-max_total_time=%lf", &seconds) == 1)
			continue;
		if (strncmp(arguments[i], "-seed=", 6) == 0)
			random_state = strtoull(arguments[i] + 6, NULL, 10) | 1;
		else if (arguments[i][0] != '-')
			read_inputs(arguments[i]);
	}
	if (input_count == 0)
		inputs[input_count++] = calloc(1, sizeof(Input));
	for (int i = 0; i < input_count; i++)
		try_input(inputs[i]);
	if (seconds > 0)
		run(seconds);
	return 0;
}
