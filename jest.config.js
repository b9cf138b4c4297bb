// Tests run as tsc compiled them (ES modules; hence --experimental-vm-modules in scripts/test.mjs): no transformer.
export default {
  testEnvironment: 'node',
  roots: ['<rootDir>/dist/test'],
  testMatch: ['**/*.test.js'],
  testPathIgnorePatterns: process.env.MOT_TEST_ALL ? [] : ['\\.slow\\.test\\.js$'],
  transform: {},
  testTimeout: 60_000,
  // Each test file uses the thread team; more workers than this would only wait for each other.
  maxWorkers: 2,
};
