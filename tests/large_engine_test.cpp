// The bootstrap of large models against single fits of the same responses, and its draws against what they should be.
#include "host/batch/large_engine.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "host/batch/bootstrap.hpp"
#include "host/batch/starts.hpp"
#include "host/model/optimize.hpp"
#include "tests/host_large_device.hpp"
#include "tests/large_engine_runs.hpp"

namespace batchlmm {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr int replicates = 4;
#else
constexpr int replicates = 24;
#endif

using oracle::crossed_on_three_factors;
using oracle::generating;

struct Blocks {
  std::vector<Status> status;
  std::vector<double> statistic, null, full, lambda, beta;
  void append(const ReplicateBlock& b) {
    status.insert(status.end(), b.status.begin(), b.status.end());
    statistic.insert(statistic.end(), b.statistic.begin(), b.statistic.end());
    null.insert(null.end(), b.deviance_null.begin(), b.deviance_null.end());
    full.insert(full.end(), b.deviance_full.begin(), b.deviance_full.end());
    lambda.insert(lambda.end(), b.lambda_null.begin(), b.lambda_null.end());
    beta.insert(beta.end(), b.beta_null.begin(), b.beta_null.end());
  }
};

Blocks run(const Bootstrap& bootstrap, std::uint64_t first, std::uint64_t count, int threads) {
  Blocks blocks;
  BootstrapRun run;
  run.first = first;
  run.count = count;
  run.threads = threads;
  run.parameters = true;
  run.collect = [&](const ReplicateBlock& b) { blocks.append(b); };
  bootstrap.run(run);
  return blocks;
}

/// From several starting points, to full precision.
double certified_deviance(const Model& model, const Eigen::VectorXd& y) {
  const auto criterion = make_criterion(model, y);
  const Optimum optimum = minimize(*criterion, model, default_starts(model));
  EXPECT_TRUE(optimum.certified);
  return optimum.value.deviance;
}

TEST(LargeEngine, RefitsAreSingleFits) {
  for (int k : {1, 2})
    for (Method method : {Method::ml, Method::reml}) {
      SCOPED_TRACE(::testing::Message() << "k " << k << " reml " << (method == Method::reml));
      // Arrange
      const Model model(crossed_on_three_factors(k, 7), method);
      const Bootstrap bootstrap(model, generating(model), 1.0, 11, Tier::large);
      const auto& engine = dynamic_cast<const LargeEngine&>(bootstrap.engine());

      // Act
      const Blocks found = run(bootstrap, 0, replicates, 1);

      // Assert
      for (int i = 0; i < replicates; ++i) {
        EXPECT_TRUE(is_used(found.status[i])) << i;
        EXPECT_NEAR(found.null[i], certified_deviance(model, engine.draw(i)), 1e-8) << i;
      }
    }
}

TEST(LargeEngine, LikelihoodRatiosAreThoseOfSingleFits) {
  // Arrange
  const auto larger = crossed_on_three_factors(2, 8);
  const auto smaller = oracle::without_slopes(*larger);
  const Model null(smaller, Method::ml), full(larger, Method::ml);
  const Bootstrap bootstrap(null, full, embed(null, full), generating(null), 1.0, 12, Tier::large);
  const auto& engine = dynamic_cast<const LargeEngine&>(bootstrap.engine());

  // Act
  const Blocks found = run(bootstrap, 0, replicates, 1);

  // Assert
  for (int i = 0; i < replicates; ++i) {
    const Eigen::VectorXd y = engine.draw(i);
    EXPECT_TRUE(is_used(found.status[i])) << i;
    EXPECT_NEAR(found.null[i], certified_deviance(null, y), 1e-8) << i;
    EXPECT_NEAR(found.full[i], certified_deviance(full, y), 1e-8) << i;
    EXPECT_GE(found.statistic[i], 0) << i;
  }
}

TEST(LargeEngine, AReplicateHasItsBitsInAnyThreadAndRange) {
  // Arrange
  const Model model(crossed_on_three_factors(2, 9), Method::ml);
  const Bootstrap bootstrap(model, generating(model), 1.0, 13, Tier::large);

  // Act
  const Blocks one = run(bootstrap, 0, 70, 1), several = run(bootstrap, 0, 70, 3), late = run(bootstrap, 37, 6, 2);

  // Assert
  EXPECT_EQ(one.null, several.null);
  EXPECT_EQ(one.lambda, several.lambda);
  EXPECT_EQ(one.beta, several.beta);
  EXPECT_EQ(late.null, std::vector<double>(one.null.begin() + 37, one.null.begin() + 43));
  const auto columns = static_cast<std::ptrdiff_t>(one.lambda.size() / 70);
  EXPECT_EQ(late.lambda, std::vector<double>(one.lambda.begin() + 37 * columns, one.lambda.begin() + 43 * columns));
}

/// Queues on the host's device, of which each counts as a device of its own.
LargeDevices host_queues(const std::shared_ptr<oracle::HostLargeMemory>& memory, int devices = 1) {
  return {[devices] { return devices; }, [memory](int) { return std::make_shared<oracle::HostLargeDevice>(memory); }};
}

TEST(LargeEngine, ADeviceFitsWhatTheCpuFits) {
  for (int k : {1, 2})
    for (Method method : {Method::ml, Method::reml}) {
      SCOPED_TRACE(::testing::Message() << "k " << k << " reml " << (method == Method::reml));
      // Arrange
      const Model model(crossed_on_three_factors(k, 7), method);
      const Embedding same = identity_embedding(model);
      const LargeEngine engine({&model, &model, &same, generating(model), 11},
                               host_queues(std::make_shared<oracle::HostLargeMemory>()));

      // Act
      const oracle::EngineResults device(engine, {true}, model, nullptr, replicates, 3),
          cpu(engine, {false}, model, nullptr, replicates, 1);

      // Assert
      oracle::expect_the_same_fits(device.null, cpu.null);
    }
}

TEST(LargeEngine, ADeviceTestsWhatTheCpuTests) {
  // Arrange
  const auto larger = crossed_on_three_factors(2, 8);
  const auto smaller = oracle::without_slopes(*larger);
  const Model null(smaller, Method::ml), full(larger, Method::ml);
  const Embedding embedding = embed(null, full);
  const LargeEngine engine({&null, &full, &embedding, generating(null), 12},
                           host_queues(std::make_shared<oracle::HostLargeMemory>(), 2));

  // Act
  const oracle::EngineResults device(engine, {true}, null, &full, replicates, 2),
      cpu(engine, {false}, null, &full, replicates, 1);

  // Assert
  oracle::expect_the_same_fits(device.null, cpu.null);
  oracle::expect_the_same_fits(device.full, cpu.full);
}

TEST(LargeEngine, AReplicateHasItsBitsOnADeviceInAnyThread) {
  // Arrange
  const Model model(crossed_on_three_factors(2, 9), Method::reml);
  const Embedding same = identity_embedding(model);
  const BootstrapModels models{&model, &model, &same, generating(model), 13};
  const LargeEngine one(models, host_queues(std::make_shared<oracle::HostLargeMemory>())),
      two(models, host_queues(std::make_shared<oracle::HostLargeMemory>(), 3));

  // Act
  const oracle::EngineResults a(one, {true}, model, nullptr, replicates, 1),
      b(two, {true}, model, nullptr, replicates, 4);

  // Assert
  EXPECT_EQ(oracle::differing_items(a.null, b.null), 0u);
}

TEST(LargeEngine, TakesAsManyQueuesAsFindPlace) {
  // Arrange
  const Model model(crossed_on_three_factors(1, 9), Method::reml);
  const Embedding same = identity_embedding(model);
  const BootstrapModels models{&model, &model, &same, generating(model), 13};
  const auto memory = std::make_shared<oracle::HostLargeMemory>();
  double constants = 0, worker = 0;
  {
    const auto device = std::make_shared<oracle::HostLargeDevice>(memory);
    const DeviceLargeModel there(model, *device);
    constants = static_cast<double>(memory->taken);
    worker = there.criterion_bytes();
  }
  const LargeEngine roomy(models, host_queues(memory, 2));
  const int most = roomy.device_workers();
  const auto with_room_for = [&](double workers) {
    const auto less = std::make_shared<oracle::HostLargeMemory>();
    less->bytes = static_cast<std::size_t>(constants + workers * worker);
    return std::make_unique<LargeEngine>(models, host_queues(less));
  };

  // Act and Assert
  EXPECT_GE(most, 16);
  EXPECT_EQ(with_room_for(3.5)->device_workers(), 3);
  EXPECT_EQ(with_room_for(1.5)->device_workers(), 1);
  EXPECT_THROW((void)with_room_for(0.5)->device_workers(), kernels::DeviceMemoryError);
  const auto single = with_room_for(1.5);
  const oracle::EngineResults few(*single, {true}, model, nullptr, 4, 3), many(roomy, {true}, model, nullptr, 4, 1);
  EXPECT_EQ(oracle::differing_items(few.null, many.null), 0u);
}

TEST(LargeEngine, GoesOnWithTheOtherDevicesWhenOneIsLost) {
  // Arrange
  const Model model(crossed_on_three_factors(1, 9), Method::reml);
  const Embedding same = identity_embedding(model);
  const std::vector<std::shared_ptr<oracle::HostLargeMemory>> memory{std::make_shared<oracle::HostLargeMemory>(),
                                                                     std::make_shared<oracle::HostLargeMemory>()};
  const LargeEngine engine(
      {&model, &model, &same, generating(model), 13},
      {[] { return 2; }, [&](int device) { return std::make_shared<oracle::HostLargeDevice>(memory[device]); }});
  const int workers = engine.device_workers();
  oracle::ResultArrays results(model.shape(), 1);
  kernels::BootstrapChunk chunk;
  chunk.count = 1;
  chunk.null = results.pointers();

  // Act
  memory[1]->lost = true;
  int losses = 0;
  for (int i = 0; i < workers; ++i) try {
      engine.run({true}, false, chunk);
    } catch (const DeviceLost&) {
      ++losses;
    }

  // Assert
  EXPECT_EQ(losses, workers / 2);
  EXPECT_EQ(engine.device_workers(), workers / 2);
  EXPECT_TRUE(is_used(static_cast<Status>(results.status[0])));
  memory[0]->lost = true;
  for (int i = 0; i < workers; ++i) EXPECT_THROW(engine.run({true}, false, chunk), DeviceLost);
  EXPECT_EQ(engine.device_workers(), 0);
}

TEST(LargeEngine, DrawsHaveTheModelsCovariance) {
  // Arrange: y'Ay has expectation tr(AV) and variance 2 tr(AVAV); A = I, and A = the cross-products within a factor
  const Model model(crossed_on_three_factors(2, 10), Method::ml);
  const std::vector<double> lambda = generating(model);
  const Bootstrap bootstrap(model, lambda, 1.0, 14, Tier::large);
  const auto& engine = dynamic_cast<const LargeEngine&>(bootstrap.engine());
  const kernels::Shape& s = model.shape();
  const Eigen::Index n = model.matrices().y.size();
  Eigen::MatrixXd v = Eigen::MatrixXd::Identity(n, n);
  std::vector<Eigen::MatrixXd> forms{Eigen::MatrixXd::Identity(n, n)};
  for (int b = 0; b < s.terms; ++b) {
    const int t = model.term_of(b), k = s.term[b].k;
    const RandomTerm& term = model.matrices().random[t];
    const Eigen::MatrixXd& z = model.z_gauge(t).columns;
    Eigen::MatrixXd l(k, k);
    for (int i = 0; i < k; ++i)
      for (int j = 0; j < k; ++j) l(i, j) = lambda[s.term[b].lambda + i * k + j];
    Eigen::MatrixXd same(n, n);
    for (Eigen::Index i = 0; i < n; ++i)
      for (Eigen::Index j = 0; j < n; ++j) same(i, j) = term.level_of_row[i] == term.level_of_row[j] ? 1 : 0;
    v += same.cwiseProduct(z * l * l.transpose() * z.transpose());
    forms.push_back(same);
    if (k > 1) forms.push_back(same.cwiseProduct(z.col(1) * z.col(1).transpose()));
  }
  constexpr int draws = 400;

  // Act
  std::vector<double> sum(forms.size(), 0.0);
  Eigen::VectorXd mean = Eigen::VectorXd::Zero(n);
  for (int i = 0; i < draws; ++i) {
    const Eigen::VectorXd y = engine.draw(i);
    mean += y / draws;
    for (std::size_t a = 0; a < forms.size(); ++a) sum[a] += y.dot(forms[a] * y);
  }

  // Assert: within 4.5 standard errors (a false alarm in 100,000 runs of another seed)
  for (std::size_t a = 0; a < forms.size(); ++a) {
    const Eigen::MatrixXd av = forms[a] * v;
    const double error = std::sqrt(2 * (av * av).trace() / draws);
    EXPECT_NEAR(sum[a] / draws, av.trace(), 4.5 * error) << "form " << a;
  }
  EXPECT_NEAR(mean.sum(), 0, 4.5 * std::sqrt(v.sum() / draws));
}

}  // namespace
}  // namespace batchlmm
