#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <random>  // NOLINT(build/c++11)
#include <thread>  // NOLINT(build/c++11)
#include <vector>

#include "gtest/gtest.h"

#include "caffe/common.hpp"
#include "caffe/util/engine.hpp"
#include "caffe/util/host_memory.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

namespace {

const size_t kMB = 1 << 20;

// Whether arrays are those of our heap, and not malloc's.
bool InPages() {
#ifdef __SANITIZE_ADDRESS__
  return false;
#else
  return engine::enabled(engine::MEMORY);
#endif
}

struct Array {
  unsigned char* data;
  size_t size;
  unsigned char value;  // of all its bytes
};

Array Make(size_t size, unsigned char value) {
  const Array array = {static_cast<unsigned char*>(AllocateHost(size)), size,
      value};
  if (array.data) { memset(array.data, value, size); }
  return array;
}

bool Keeps(const Array& array) {
  for (size_t i = 0; i < array.size; ++i) {
    if (array.data[i] != array.value) { return false; }
  }
  return true;
}

// The memory that this process has now.
double ResidentMB() {
  long pages = 0;  // NOLINT(runtime/int)
  FILE* const file = fopen("/proc/self/statm", "r");
  if (fscanf(file, "%*s %ld", &pages) != 1) { pages = 0; }
  fclose(file);
  return static_cast<double>(pages) * sysconf(_SC_PAGESIZE) / kMB;
}

// Arrays come and go; none may touch another one's bytes. Counts those that do.
int CountFaults(int seed, int steps) {
  std::mt19937 random(seed);
  std::vector<Array> arrays;
  int faults = 0;
  for (int step = 0; step < steps; ++step) {
    if (arrays.empty() || random() % 5 < 3) {
      // As many sizes between 1 KB and 2 KB as between 2 MB and 4 MB.
      const size_t size = (1024 << random() % 12) + random() % 1024;
      arrays.push_back(Make(size, random() % 256));
      faults += !arrays.back().data ||
          reinterpret_cast<size_t>(arrays.back().data) % 64 != 0;
    } else {
      const size_t place = random() % arrays.size();
      faults += !Keeps(arrays[place]);
      FreeHost(arrays[place].data);
      arrays[place] = arrays.back();
      arrays.pop_back();
    }
  }
  for (size_t i = 0; i < arrays.size(); ++i) {
    faults += !Keeps(arrays[i]);
    FreeHost(arrays[i].data);
  }
  return faults;
}

}  // namespace

TEST(HostMemoryTest, TestArraysDoNotTouch) {
  EXPECT_EQ(0, CountFaults(1, 1500));
}

TEST(HostMemoryTest, TestThreads) {
  std::vector<int> faults(4, -1);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.push_back(std::thread([i, &faults]() {
      faults[i] = CountFaults(2 + i, 400);
    }));
  }
  for (int i = 0; i < 4; ++i) { threads[i].join(); }
  for (int i = 0; i < 4; ++i) { EXPECT_EQ(0, faults[i]); }
}

TEST(HostMemoryTest, TestMemoryGoesBack) {
  if (!InPages()) { return; }
  const double before = ResidentMB();
  std::vector<Array> arrays;
  for (int i = 0; i < 100; ++i) { arrays.push_back(Make(kMB, i)); }
  EXPECT_GT(ResidentMB(), before + 95);
  for (int i = 0; i < 100; ++i) { FreeHost(arrays[i].data); }
  EXPECT_LT(ResidentMB(), before + 5);
}

// What is free between arrays has room for others of that size.
TEST(HostMemoryTest, TestHolesAreFilled) {
  if (!InPages()) { return; }
  std::vector<Array> arrays;
  for (int i = 0; i < 64; ++i) { arrays.push_back(Make(3 * kMB / 2, i)); }
  const double full = ResidentMB();
  for (int i = 0; i < 64; i += 2) { FreeHost(arrays[i].data); }
  for (int i = 0; i < 64; i += 2) { arrays[i] = Make(3 * kMB / 2, i); }
  EXPECT_LT(ResidentMB(), full + 5);
  for (int i = 0; i < 64; ++i) {
    EXPECT_TRUE(Keeps(arrays[i]));
    FreeHost(arrays[i].data);
  }
}

TEST(HostMemoryTest, TestTooMuch) {
  FreeHost(NULL);
  if (!InPages()) { return; }  // a sanitizer's malloc ends the program
  EXPECT_TRUE(AllocateHost(~static_cast<size_t>(0)) == NULL);
  EXPECT_TRUE(AllocateHost(static_cast<size_t>(1) << 60) == NULL);
}

TEST(HostMemoryTest, TestReserve) {
  HostMemory memory;
  EXPECT_TRUE(memory.data() == NULL);
  void* const data = memory.Reserve(kMB);
  EXPECT_EQ(data, memory.Reserve(kMB / 2));
  memset(memory.Reserve(2 * kMB), 1, 2 * kMB);
  memory.Free();
  EXPECT_TRUE(memory.data() == NULL);
}

}  // namespace caffe
